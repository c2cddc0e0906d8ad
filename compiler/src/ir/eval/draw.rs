//! Random atoms: each drawn from its name, within its known range, so that no order of evaluation matters.

use super::{
    Dims, Evaluated, Instance,
    value::{Mat, Ten},
};
use crate::ir::{
    Atom, Feat, Frame, Leaf,
    facts::{Definition, Feature, Known, Part},
};

/// xorshift of a seed and a text.
struct Source(u64);

impl Source {
    fn of(seed: u64, name: &str) -> Self {
        let hash = name
            .bytes()
            .fold(seed ^ 0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut source = Self(hash | 1);
        (0..8).for_each(|_| {
            source.next();
        });
        source
    }

    /// In [0, 1).
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Where entries of unknown range lie: small enough that products over all tokens neither vanish nor grow.
const REACH: f64 = 0.7;

/// One in so many entries of a decay is exactly 0.
const RESETS: f64 = 12.0;

/// How long a part of features is that is made of no further ones.
const PART: usize = 2;

/// The sizes of the state's sides that its features need.
pub(super) fn fitted(dims: Dims, known: &Known) -> Dims {
    let of = |feat: Feat| {
        let mut sized: Vec<&Atom> = known.features.keys().filter(|atom| atom.feat == feat).collect();
        sized.sort();
        sized.first().map(|atom| length(known, atom))
    };
    Dims { rows: of(Feat::K).unwrap_or(dims.rows), columns: of(Feat::V).unwrap_or(dims.columns), ..dims }
}

fn length(known: &Known, atom: &Atom) -> usize {
    let of = |part: &Part| {
        let vector = part.leaf.factors.iter().find(|(atom, _)| atom.feat == Feat::F);
        vector.map_or(1, |(atom, _)| length(known, atom))
    };
    match known.features.get(atom) {
        Some(Feature::Outer(parts)) => parts.iter().map(of).product(),
        Some(Feature::Stack(parts)) => parts.iter().map(of).sum(),
        None => PART,
    }
}

impl Instance {
    /// The initial state.
    pub(super) fn initial(&self) -> Mat {
        let mut source = Source::of(self.seed, "the initial state");
        let mut initial = Mat::zeros(self.dims, Frame::Any);
        initial.data.fill_with(|| 2.0 * source.next() - 1.0);
        initial
    }

    pub(super) fn atom(&self, atom: Atom) -> Evaluated<Ten> {
        let sum = |terms: &[Leaf]| -> Evaluated<Ten> {
            let mut total = Ten::zeros(self.dims, Frame::Tokens, atom.feat, 1);
            for term in terms {
                let term = self.leaf(term)?;
                for (place, x) in total.data.iter_mut().enumerate() {
                    *x += term.at(place / total.width, 0, place % total.width);
                }
            }
            Ok(total)
        };
        if let Some(feature) = self.known.features.get(&atom) {
            return self.feature(atom, feature);
        }
        match self.known.definitions.get(&atom) {
            Some(Definition::Dot(w, k)) => super::stream::dot(self.dims, &self.leaf(w)?, &self.leaf(k)?),
            Some(Definition::Sum(terms)) => sum(terms),
            Some(Definition::Reciprocal(of)) => {
                let whole = self.known.definitions.iter().find(|(_, d)| **d == Definition::Expr(*of));
                let mut value = whole.map_or_else(|| Ok(self.random(atom, (0.5, 2.0))), |(a, _)| self.atom(*a))?;
                value.data.iter_mut().for_each(|x| *x = 1.0 / *x);
                Ok(value)
            }
            _ => Ok(self.random(atom, self.range(atom))),
        }
    }

    /// Where an atom's entries are drawn: its range, cut to a moderate size.
    fn range(&self, atom: Atom) -> (f64, f64) {
        let decays = |leaf: &Leaf| leaf.factors.iter().any(|(a, _)| *a == atom);
        let known = self.known.ranges.get(&atom).copied().unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        if self.known.promised.iter().any(decays) {
            return (known.0.max(0.0), known.1.min(1.0));
        }
        let (low, high) = (known.0.max(-REACH), known.1.min(REACH));
        if low < high { (low, high) } else { (known.0.max(known.1 - 1.0), known.1.min(known.0 + 1.0)) }
    }

    /// Features from their parts.
    fn feature(&self, atom: Atom, feature: &Feature) -> Evaluated<Ten> {
        let mut value = Ten::of_width(self.dims, Frame::Tokens, atom.feat, length(&self.known, &atom));
        let width = value.width;
        let of = |part: &Part| self.leaf(&part.leaf);
        match feature {
            Feature::Outer([a, b]) => {
                let (a, b) = (of(a)?, of(b)?);
                for (place, x) in value.data.iter_mut().enumerate() {
                    let (t, i) = (place / width, place % width);
                    *x = a.at(t, 0, i / b.width) * b.at(t, 0, i % b.width);
                }
            }
            Feature::Stack(parts) => {
                let mut first = 0;
                for part in parts {
                    let part = of(part)?;
                    for t in 0..self.dims.times(Frame::Tokens) {
                        (0..part.width).for_each(|i| value.data[t * width + first + i] = part.at(t, 0, i));
                    }
                    first += part.width;
                }
            }
        }
        Ok(value)
    }

    fn random(&self, atom: Atom, (low, high): (f64, f64)) -> Ten {
        let mut source = Source::of(self.seed, atom.name.as_str());
        let width = if atom.feat == Feat::F { PART } else { atom.feat.size(self.dims) };
        let mut value = Ten::of_width(self.dims, Frame::Tokens, atom.feat, width);
        value.data.fill_with(|| {
            let reset = low == 0.0 && source.next() * RESETS < 1.0;
            let entry = low + (high - low) * source.next();
            if reset { 0.0 } else { entry }
        });
        value
    }

    /// A stream of numbers in (-1, 1), or in [0, 1] with zeros among them, for a pattern variable.
    pub fn stream(&self, name: &str, frame: Frame, feat: Feat, stack: usize, decay: bool) -> Ten {
        let mut source = Source::of(self.seed, name);
        let mut value = Ten::zeros(self.dims, frame, feat, stack);
        value.data.fill_with(|| {
            let entry = source.next();
            match decay {
                true if source.next() * RESETS < 1.0 => 0.0,
                true => entry,
                false => REACH * (2.0 * entry - 1.0),
            }
        });
        value
    }

    /// Random matrices for a pattern variable.
    pub fn matrices(&self, name: &str, frame: Frame) -> Mat {
        let mut value = Mat::zeros(self.dims, frame);
        value.data = self.numbers(name, value.data.len());
        value
    }

    /// Random numbers for matrices, operators and pairs of a pattern variable.
    pub fn numbers(&self, name: &str, count: usize) -> Vec<f64> {
        let mut source = Source::of(self.seed, name);
        (0..count).map(|_| REACH * (2.0 * source.next() - 1.0)).collect()
    }
}
