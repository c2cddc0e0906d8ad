//! State-free per-token values as canonical products: equal products are equal leaves, whatever order they were written in.
//!
//! A leaf is `number * a1^p1 * a2^p2 ...`: a product of scalar atoms and of equally shaped vector atoms, element by
//! element. Doing the commutative algebra here keeps associativity and commutativity out of the e-graph, where they are
//! what makes it grow without end.

use std::{cmp::Ordering, fmt, str::FromStr};

use egg::Symbol;

/// Which shape a stream has at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feat {
    /// A scalar.
    S,
    /// A vector along the state's rows.
    K,
    /// A vector along the state's columns.
    V,
    /// A part of a vector of features, of a length of its own.
    F,
}

impl Feat {
    /// The shape of an element-wise product; `None` if the two do not fit.
    pub fn join(self, other: Feat) -> Option<Feat> {
        match (self, other) {
            (Feat::S, x) | (x, Feat::S) => Some(x),
            (a, b) if a == b => Some(a),
            _ => None,
        }
    }
}

/// One state-free value of the program, named by its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Atom {
    pub name: Symbol,
    pub feat: Feat,
}

impl Ord for Atom {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.feat, self.name.as_str()).cmp(&(other.feat, other.name.as_str()))
    }
}

impl PartialOrd for Atom {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A canonical product.
#[derive(Debug, Clone)]
pub struct Leaf {
    pub number: f64,
    /// Sorted by atom, powers not 0.
    pub factors: Vec<(Atom, i8)>,
    pub feat: Feat,
}

impl Leaf {
    pub fn number(number: f64) -> Self {
        Self { number, factors: Vec::new(), feat: Feat::S }
    }

    /// The vector of ones.
    pub fn ones(feat: Feat) -> Self {
        Self { number: 1.0, factors: Vec::new(), feat }
    }

    pub fn atom(name: &str, feat: Feat) -> Self {
        Self { number: 1.0, factors: vec![(Atom { name: name.into(), feat }, 1)], feat }
    }

    /// The element-wise product; `None` for a K-vector times a V-vector.
    pub fn times(&self, other: &Leaf) -> Option<Leaf> {
        let feat = self.feat.join(other.feat)?;
        let mut factors = self.factors.clone();
        for (atom, power) in &other.factors {
            match factors.iter_mut().find(|(a, _)| a == atom) {
                Some((_, p)) => *p += power,
                None => factors.push((*atom, *power)),
            }
        }
        factors.retain(|(_, power)| *power != 0);
        factors.sort();
        Some(Leaf { number: self.number * other.number, factors, feat })
    }

    /// `self / other` where every factor of `other` divides `self`: no power of the quotient is lower than in `self`
    /// by more than `other` has, and no new reciprocal appears.
    pub fn divided_by(&self, other: &Leaf) -> Option<Leaf> {
        if other.number == 0.0 || self.feat.join(other.feat)? != self.feat {
            return None;
        }
        let mut quotient = self.clone();
        for (atom, power) in &other.factors {
            let place = quotient.factors.iter().position(|(a, p)| a == atom && *p >= *power && *power > 0)?;
            quotient.factors[place].1 -= power;
        }
        quotient.factors.retain(|(_, power)| *power != 0);
        quotient.number /= other.number;
        Some(quotient)
    }

    /// The scalar part and the vector part without it: `self = scalar * vector`.
    pub fn split(&self) -> (Leaf, Leaf) {
        let (scalars, vectors) = self.factors.iter().partition(|(atom, _)| atom.feat == Feat::S);
        (
            Leaf { number: self.number, factors: scalars, feat: Feat::S },
            Leaf { number: 1.0, factors: vectors, feat: self.feat },
        )
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<f64> {
        (self.factors.is_empty() && self.feat == Feat::S).then_some(self.number)
    }

    pub fn is_one(&self) -> bool {
        self.as_number() == Some(1.0)
    }
}

impl PartialEq for Leaf {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Leaf {}

impl Ord for Leaf {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.feat, &self.factors).cmp(&(other.feat, &other.factors)).then(self.number.total_cmp(&other.number))
    }
}

impl PartialOrd for Leaf {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::hash::Hash for Leaf {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.number.to_bits().hash(state);
        self.factors.hash(state);
        self.feat.hash(state);
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.factors.is_empty() {
            let suffix = match self.feat {
                Feat::S => "",
                Feat::K => "k",
                Feat::V => "v",
                Feat::F => "f",
            };
            return write!(f, "{}{suffix}", self.number);
        }
        let sign = if self.number == -1.0 { "-" } else { "" };
        let mut parts = Vec::new();
        if self.number.abs() != 1.0 {
            parts.push(self.number.to_string());
        }
        for (atom, power) in &self.factors {
            parts.push(match power {
                1 => atom.name.to_string(),
                p => format!("{}^{p}", atom.name),
            });
        }
        write!(f, "{sign}{}", parts.join("."))
    }
}

/// Only numbers are written in patterns; `1k` and `1v` are vectors of ones.
impl FromStr for Leaf {
    type Err = std::num::ParseFloatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, feat) = match text.as_bytes().last() {
            Some(b'k') => (&text[..text.len() - 1], Feat::K),
            Some(b'v') => (&text[..text.len() - 1], Feat::V),
            _ => (text, Feat::S),
        };
        // Names such as `inf` are operators or variables of a pattern, never numbers.
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            return "".parse::<f64>().map(Leaf::number);
        }
        Ok(Leaf { number: digits.parse()?, factors: Vec::new(), feat })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_canonical() {
        let (a, k) = (Leaf::atom("a", Feat::S), Leaf::atom("k", Feat::K));
        let minus = Leaf::number(-1.0);
        let one = minus.times(&a).and_then(|x| x.times(&k));
        let other = k.times(&minus).and_then(|x| x.times(&a));
        assert_eq!(one, other);
        assert_eq!(one.map(|x| x.to_string()), Some("-a.k".to_string()));
    }

    #[test]
    fn division_needs_every_factor() {
        let (a, b) = (Leaf::atom("a", Feat::S), Leaf::atom("b", Feat::S));
        let ab = a.times(&b).expect("scalars multiply");
        assert_eq!(ab.divided_by(&a), Some(b.clone()));
        assert_eq!(b.divided_by(&a), None);
        assert_eq!(b.divided_by(&Leaf::number(1.0)), Some(b));
    }
}
