//! Positions of elements: integer expressions in the axes of a node.

use chunkwise_dsl::shape::Size;
use chunkwise_dsl::typed::LetId;

/// An integer expression. Division and remainder round down.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Index {
    /// The position along an axis.
    Axis(usize),
    Number(i64),
    Size(Size),
    /// The s of an iterated let.
    Step(LetId),
    Add(Box<Index>, Box<Index>),
    Sub(Box<Index>, Box<Index>),
    Mul(Box<Index>, Box<Index>),
    Div(Box<Index>, Box<Index>),
    Mod(Box<Index>, Box<Index>),
    Min(Box<Index>, Box<Index>),
    Max(Box<Index>, Box<Index>),
}

impl Index {
    pub fn plus(self, other: Index) -> Index {
        match (&self, &other) {
            (Index::Number(a), Index::Number(b)) => Index::Number(a.saturating_add(*b)),
            (Index::Number(0), _) => other,
            (_, Index::Number(0)) => self,
            _ => Index::Add(Box::new(self), Box::new(other)),
        }
    }

    pub fn minus(self, other: Index) -> Index {
        match (&self, &other) {
            (Index::Number(a), Index::Number(b)) => Index::Number(a.saturating_sub(*b)),
            (_, Index::Number(0)) => self,
            (Index::Sub(x, a), Index::Number(b)) if matches!(**a, Index::Number(_)) => {
                let a = (**a).clone().plus(Index::Number(*b));
                (**x).clone().minus(a)
            }
            _ => Index::Sub(Box::new(self), Box::new(other)),
        }
    }

    pub fn times(self, other: Index) -> Index {
        match (&self, &other) {
            (Index::Number(a), Index::Number(b)) => Index::Number(a.saturating_mul(*b)),
            (Index::Number(1), _) => other,
            (_, Index::Number(1)) => self,
            _ => Index::Mul(Box::new(self), Box::new(other)),
        }
    }

    pub fn quotient(self, other: Index) -> Index {
        if other == Index::Number(1) { self } else { Index::Div(Box::new(self), Box::new(other)) }
    }

    pub fn remainder(self, other: Index) -> Index {
        Index::Mod(Box::new(self), Box::new(other))
    }

    /// A size; a constant one is a number.
    pub fn size(size: &Size) -> Index {
        size.as_constant().map_or_else(|| Index::Size(size.clone()), Index::Number)
    }

    /// With other positions in place of the axes.
    pub fn replaced(&self, place: &dyn Fn(usize) -> Index) -> Index {
        let of = |x: &Index| x.replaced(place);
        match self {
            Index::Axis(axis) => place(*axis),
            Index::Number(_) | Index::Size(_) | Index::Step(_) => self.clone(),
            Index::Add(a, b) => of(a).plus(of(b)),
            Index::Sub(a, b) => of(a).minus(of(b)),
            Index::Mul(a, b) => of(a).times(of(b)),
            Index::Div(a, b) => of(a).quotient(of(b)),
            Index::Mod(a, b) => of(a).remainder(of(b)),
            Index::Min(a, b) => Index::Min(Box::new(of(a)), Box::new(of(b))),
            Index::Max(a, b) => Index::Max(Box::new(of(a)), Box::new(of(b))),
        }
    }

    /// With `by` in place of a part.
    pub fn with(&self, part: &Index, by: &Index) -> Index {
        let of = |x: &Index| x.with(part, by);
        match self {
            whole if whole == part => by.clone(),
            Index::Axis(_) | Index::Number(_) | Index::Size(_) | Index::Step(_) => self.clone(),
            Index::Add(a, b) => of(a).plus(of(b)),
            Index::Sub(a, b) => of(a).minus(of(b)),
            Index::Mul(a, b) => of(a).times(of(b)),
            Index::Div(a, b) => of(a).quotient(of(b)),
            Index::Mod(a, b) => of(a).remainder(of(b)),
            Index::Min(a, b) => Index::Min(Box::new(of(a)), Box::new(of(b))),
            Index::Max(a, b) => Index::Max(Box::new(of(a)), Box::new(of(b))),
        }
    }

    /// The nearest position in `0..size`; 0 where there is none.
    pub fn clamped(&self, size: &Size) -> Index {
        let last = Index::size(&size.sub(&Size::constant(1)));
        let below = Index::Min(Box::new(self.clone()), Box::new(last));
        Index::Max(Box::new(below), Box::new(Index::Number(0)))
    }

    /// Whether a quotient, remainder, minimum or maximum in it depends on an axis.
    pub fn bends(&self) -> bool {
        let varies = |index: &Index| index.any(&|leaf| matches!(leaf, Index::Axis(_)));
        match self {
            Index::Div(..) | Index::Mod(..) | Index::Min(..) | Index::Max(..) => varies(self),
            _ => self.parts().is_some_and(|[a, b]| a.bends() || b.bends()),
        }
    }

    pub fn mentions(&self, axis: usize) -> bool {
        self.any(&|leaf| *leaf == Index::Axis(axis))
    }

    /// The iteration whose step it depends on.
    pub fn step(&self) -> Option<LetId> {
        match self {
            Index::Step(of) => Some(*of),
            _ => self.parts().and_then(|[a, b]| a.step().or_else(|| b.step())),
        }
    }

    /// The two that an operation is of.
    fn parts(&self) -> Option<[&Index; 2]> {
        match self {
            Index::Add(a, b)
            | Index::Sub(a, b)
            | Index::Mul(a, b)
            | Index::Div(a, b)
            | Index::Mod(a, b)
            | Index::Min(a, b)
            | Index::Max(a, b) => Some([a, b]),
            Index::Axis(_) | Index::Number(_) | Index::Size(_) | Index::Step(_) => None,
        }
    }

    fn any(&self, is: &dyn Fn(&Index) -> bool) -> bool {
        match self.parts() {
            Some([a, b]) => a.any(is) || b.any(is),
            None => is(self),
        }
    }

    /// The e and n of neighbours `e div n` and `e mod n`: together they are e.
    pub fn split_in_two<'a>(first: &'a Index, second: &'a Index) -> Option<(&'a Index, &'a Index)> {
        match (first, second) {
            (Index::Div(e, n), Index::Mod(f, m)) if e == f && n == m => Some((e, n)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_fold_and_axes_are_replaced() {
        let index = Index::Axis(0).times(Index::Number(2)).plus(Index::Number(1));
        assert_eq!(index.replaced(&|_| Index::Number(3)), Index::Number(7));
        assert!(index.mentions(0) && !index.mentions(1));
    }

    #[test]
    fn a_part_is_clamped_where_it_stands() {
        let part = Index::Axis(0).minus(Index::Number(3));
        let index = part.clone().plus(Index::Number(2));
        let clamped = index.with(&part, &part.clamped(&Size::constant(4)));
        let at = |n: i64| clamped.replaced(&|_| Index::Number(n));
        let (low, high) = (Index::Number(-3), Index::Number(6));
        assert_eq!(at(0), low.clamped(&Size::constant(4)).plus(Index::Number(2)));
        assert_eq!(at(9), high.clamped(&Size::constant(4)).plus(Index::Number(2)));
    }

    #[test]
    fn a_quotient_beside_its_remainder_is_one_position() {
        let (e, n) = (Index::Axis(1), Index::Number(5));
        let (first, second) = (e.clone().quotient(n.clone()), e.clone().remainder(n.clone()));
        assert_eq!(Index::split_in_two(&first, &second), Some((&e, &n)));
        assert_eq!(Index::split_in_two(&second, &first), None);
    }
}
