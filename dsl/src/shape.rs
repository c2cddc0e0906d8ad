//! Symbolic sizes: polynomials with integer coefficients in the axes, compared as expressions before any axis is known.

use std::collections::BTreeMap;

/// An axis of a variant: its place in `typed::Variant::axes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AxisId(pub u32);

/// What a size is a polynomial in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Factor {
    Axis(AxisId),
    /// `a div b`, rounding down, kept whole.
    FloorDiv(Size, Size),
    /// `a mod b`, kept whole.
    Mod(Size, Size),
}

/// A sum of integer multiples of products of factors, in a canonical order: equal polynomials are equal values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size {
    /// Sorted factors (with repetition) to a coefficient that is not zero.
    terms: BTreeMap<Vec<Factor>, i64>,
}

impl Size {
    pub fn constant(n: i64) -> Self {
        let mut terms = BTreeMap::new();
        if n != 0 {
            terms.insert(Vec::new(), n);
        }
        Self { terms }
    }

    pub fn axis(axis: AxisId) -> Self {
        Self { terms: BTreeMap::from([(vec![Factor::Axis(axis)], 1)]) }
    }

    pub fn factor(factor: Factor) -> Self {
        Self { terms: BTreeMap::from([(vec![factor], 1)]) }
    }

    /// The number, if no axis occurs.
    pub fn as_constant(&self) -> Option<i64> {
        match self.terms.len() {
            0 => Some(0),
            1 => self.terms.get(&Vec::new()).copied(),
            _ => None,
        }
    }

    /// The axis, if the size is just one.
    pub fn as_axis(&self) -> Option<AxisId> {
        match self.terms.iter().next() {
            Some((factors, 1)) if self.terms.len() == 1 => match factors.as_slice() {
                [Factor::Axis(axis)] => Some(*axis),
                _ => None,
            },
            _ => None,
        }
    }

    pub fn add(&self, other: &Size) -> Size {
        let mut sum = self.clone();
        for (factors, n) in &other.terms {
            let entry = sum.terms.entry(factors.clone()).or_insert(0);
            // Sizes beyond i64 stay at its end: no array is as large, so binding refuses them.
            *entry = entry.saturating_add(*n);
            if *entry == 0 {
                sum.terms.remove(factors);
            }
        }
        sum
    }

    pub fn neg(&self) -> Size {
        Size { terms: self.terms.iter().map(|(f, n)| (f.clone(), n.saturating_neg())).collect() }
    }

    pub fn sub(&self, other: &Size) -> Size {
        self.add(&other.neg())
    }

    pub fn mul(&self, other: &Size) -> Size {
        let mut product = Size::default();
        for (a, n) in &self.terms {
            for (b, m) in &other.terms {
                let mut factors = [a.as_slice(), b.as_slice()].concat();
                factors.sort();
                product = product.add(&Size { terms: BTreeMap::from([(factors, n.saturating_mul(*m))]) });
            }
        }
        product
    }

    /// `self div other`, rounding down. None for a division by the constant 0.
    pub fn floor_div(&self, other: &Size) -> Option<Size> {
        match (self.as_constant(), other.as_constant()) {
            (_, Some(0)) => None,
            (_, Some(1)) => Some(self.clone()),
            (Some(a), Some(b)) => Some(Size::constant(a.div_euclid(b))),
            _ => Some(Size { terms: BTreeMap::from([(vec![Factor::FloorDiv(self.clone(), other.clone())], 1)]) }),
        }
    }

    /// `self mod other`. None for a division by the constant 0.
    pub fn modulo(&self, other: &Size) -> Option<Size> {
        match (self.as_constant(), other.as_constant()) {
            (_, Some(0)) => None,
            (Some(a), Some(b)) => Some(Size::constant(a.rem_euclid(b))),
            _ => Some(Size { terms: BTreeMap::from([(vec![Factor::Mod(self.clone(), other.clone())], 1)]) }),
        }
    }

    /// The size with axes replaced: each for which `value_of` knows a value.
    pub fn substitute(&self, value_of: &dyn Fn(AxisId) -> Option<Size>) -> Size {
        let mut total = Size::default();
        for (factors, n) in &self.terms {
            let mut product = Size::constant(*n);
            for factor in factors {
                let kept = || Size { terms: BTreeMap::from([(vec![factor.clone()], 1)]) };
                let value = match factor {
                    Factor::Axis(axis) => value_of(*axis),
                    Factor::FloorDiv(a, b) => a.substitute(value_of).floor_div(&b.substitute(value_of)),
                    Factor::Mod(a, b) => a.substitute(value_of).modulo(&b.substitute(value_of)),
                };
                product = product.mul(&value.unwrap_or_else(kept));
            }
            total = total.add(&product);
        }
        total
    }

    /// The sum's terms: factors (with repetition) and their coefficient.
    pub fn terms(&self) -> impl Iterator<Item = (&[Factor], i64)> {
        self.terms.iter().map(|(factors, n)| (factors.as_slice(), *n))
    }

    /// The axes that occur.
    pub fn axes(&self) -> Vec<AxisId> {
        let mut found = Vec::new();
        for factor in self.terms.keys().flatten() {
            match factor {
                Factor::Axis(axis) => found.push(*axis),
                Factor::FloorDiv(a, b) | Factor::Mod(a, b) => {
                    found.extend(a.axes());
                    found.extend(b.axes());
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// The value, if `size_of` knows every axis that occurs (and no division is by zero).
    pub fn eval(&self, size_of: &dyn Fn(AxisId) -> Option<i64>) -> Option<i64> {
        let mut total = 0i64;
        for (factors, n) in &self.terms {
            let mut product = *n;
            for factor in factors {
                let value = match factor {
                    Factor::Axis(axis) => size_of(*axis)?,
                    Factor::FloorDiv(a, b) => a.eval(size_of)?.checked_div_euclid(b.eval(size_of)?)?,
                    Factor::Mod(a, b) => a.eval(size_of)?.checked_rem_euclid(b.eval(size_of)?)?,
                };
                product = product.checked_mul(value)?;
            }
            total = total.checked_add(product)?;
        }
        Some(total)
    }

    /// The size in the names of the axes: `2*K`, `Y*X + 1`.
    pub fn print(&self, name_of: &dyn Fn(AxisId) -> String) -> String {
        if self.terms.is_empty() {
            return "0".to_string();
        }
        let mut text = String::new();
        // Products before the constant: `2*T - 1`.
        for (place, (factors, n)) in self.terms.iter().rev().enumerate() {
            let sign = if *n < 0 { "-" } else { "+" };
            match (place, *n < 0) {
                (0, true) => text.push('-'),
                (0, false) => {}
                _ => text.push_str(&format!(" {sign} ")),
            }
            let mut parts: Vec<String> = factors
                .iter()
                .map(|factor| match factor {
                    Factor::Axis(axis) => name_of(*axis),
                    Factor::FloorDiv(a, b) => format!("({} div {})", a.print(name_of), b.print(name_of)),
                    Factor::Mod(a, b) => format!("({} mod {})", a.print(name_of), b.print(name_of)),
                })
                .collect();
            if n.abs() != 1 || parts.is_empty() {
                parts.insert(0, n.abs().to_string());
            }
            text.push_str(&parts.join("*"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(axis: AxisId) -> String {
        ["K", "V", "T"][axis.0 as usize].to_string()
    }

    #[test]
    fn equal_polynomials_are_equal_values() {
        let k = Size::axis(AxisId(0));
        assert_eq!(k.add(&k), Size::constant(2).mul(&k));
        assert_eq!(k.sub(&k), Size::constant(0));
        assert_eq!(k.add(&k).print(&name), "2*K");
    }

    #[test]
    fn sizes_evaluate_once_their_axes_are_known() {
        let t = Size::axis(AxisId(2));
        let size = Size::constant(2).mul(&t).sub(&Size::constant(1));
        assert_eq!(size.print(&name), "2*T - 1");
        assert_eq!(size.eval(&|_| Some(4)), Some(7));
        assert_eq!(size.eval(&|_| None), None);
    }
}
