//! Sizes for runs without tensors: what `--dim`, `--tokens`, `--batch` and `--heads` say, and for every other axis a
//! size of its own, so that no two axes are mistaken for each other.

use std::collections::BTreeMap;

use chunkwise_compiler::{
    Derivation, Form,
    bind::{BindError, Sizes, batch_axes, bind_dims},
};
use chunkwise_dsl::{shape::AxisId, typed::Variant};
use chunkwise_runtime::choose::exists;

/// Sizes of the axes without a meaning of their own, by declaration: multiples of 4 (`rope2d` needs that), of 8 only
/// now and then, so that vector code meets its remainders.
const OWN: [usize; 10] = [20, 36, 12, 28, 8, 44, 16, 52, 24, 60];

/// Tokens of `bench`, where none are asked for: enough for many chunks.
pub const TOKENS: usize = 2048;

/// The sizes of `bench` and `emit`, where none are asked for.
pub fn usual() -> Wish {
    Wish::new().fill("B", 1).fill("H", 8).fill("K", 128).fill("V", 128)
}

/// The axis of this name.
pub fn axis_named(variant: &Variant, name: &str) -> Option<AxisId> {
    variant.axes.iter().position(|axis| axis.name == name).map(|place| AxisId(place as u32))
}

/// The form of commands that take one, where none is asked for: the first of these that exists.
pub fn usual_form(variant: &Variant) -> Form {
    let order = [Form::Chunked, Form::Recurrent, Form::Parallel];
    let derivation = Derivation::of(variant);
    order.into_iter().find(|&form| exists(&derivation, form).is_ok()).unwrap_or(Form::Recurrent)
}

/// What sizes are asked for; the rest is filled in.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    given: BTreeMap<String, usize>,
    fill: BTreeMap<String, usize>,
}

impl Wish {
    pub fn new() -> Self {
        Self::default()
    }

    /// Asked for: an error if it cannot be.
    pub fn give(mut self, name: &str, size: usize) -> Self {
        self.given.insert(name.to_string(), size);
        self
    }

    pub fn give_all<'a>(self, sizes: impl IntoIterator<Item = &'a (String, usize)>) -> Self {
        sizes.into_iter().fold(self, |wish, (name, size)| wish.give(name, *size))
    }

    /// Asked for of an axis that the variant may lack.
    pub fn give_axis(self, variant: &Variant, axis: Option<AxisId>, size: Option<usize>) -> Self {
        match (axis, size) {
            (Some(axis), Some(size)) => self.give(&variant.axis_name(axis), size),
            _ => self,
        }
    }

    /// Taken where nothing else is asked for.
    pub fn fill(mut self, name: &str, size: usize) -> Self {
        self.fill.insert(name.to_string(), size);
        self
    }

    pub fn fill_all<'a>(self, sizes: impl IntoIterator<Item = &'a (String, usize)>) -> Self {
        sizes.into_iter().fold(self, |wish, (name, size)| wish.fill(name, *size))
    }

    /// The sizes of all axes.
    ///
    /// # Errors
    /// What was asked for cannot be: `H = G*R` with H = 5 and G = 2.
    pub fn bind(&self, variant: &Variant) -> Result<Sizes, Vec<String>> {
        let mut dims = self.given.clone();
        for (place, axis) in variant.axes.iter().enumerate().filter(|(_, axis)| axis.value.is_none()) {
            dims.entry(axis.name.clone()).or_insert_with(|| self.filling(variant, place));
        }
        let first = bind(variant, &dims);
        if first.is_ok() {
            return first;
        }
        // A derived axis was asked for (tokens on a grid, grouped heads): look for factors that give it.
        for (place, axis) in variant.axes.iter().enumerate() {
            if let (Some(value), Some(&size)) = (&axis.value, self.given.get(&axis.name)) {
                let free = value.axes().into_iter().filter(|id| id.0 as usize != place);
                let free: Vec<String> =
                    free.map(|id| variant.axis_name(id)).filter(|name| !self.given.contains_key(name)).collect();
                if let Some(sizes) = factors(variant, &dims, &free, size) {
                    return Ok(sizes);
                }
            }
        }
        first
    }

    fn filling(&self, variant: &Variant, place: usize) -> usize {
        let id = AxisId(place as u32);
        let name = variant.axes[place].name.as_str();
        if let Some(&size) = self.fill.get(name) {
            return size;
        }
        if variant.token == Some(id) {
            return 65;
        }
        let grid = variant.grid.as_ref();
        let of_grid = |size: &chunkwise_dsl::shape::Size| size.as_axis() == Some(id);
        match name {
            "B" => 2,
            "H" => 3,
            _ if grid.is_some_and(|grid| of_grid(&grid.rows)) => 5,
            _ if grid.is_some_and(|grid| of_grid(&grid.cols)) => 7,
            _ if grid.is_some_and(|grid| grid.offset.axes().contains(&id)) => 3,
            // Factors of a batch axis (`H = G*R`), and further batch axes.
            _ if batch_axes(variant).contains(&id) || in_batch_axis(variant, id) => 2,
            _ => {
                let own = own_axes(variant);
                let order = own.iter().position(|axis| *axis == id).unwrap_or(0);
                OWN[order % OWN.len()] + 64 * (order / OWN.len())
            }
        }
    }
}

/// Whether a batch axis is derived from this one.
fn in_batch_axis(variant: &Variant, id: AxisId) -> bool {
    let batch = batch_axes(variant);
    batch.iter().filter_map(|axis| variant.axes[axis.0 as usize].value.as_ref()).any(|value| value.axes().contains(&id))
}

/// Whether the tokens' grid is made of this one.
fn in_grid(variant: &Variant, id: AxisId) -> bool {
    let value = variant.token.and_then(|token| variant.axes[token.0 as usize].value.as_ref());
    value.is_some_and(|value| value.axes().contains(&id))
}

/// The axes that are neither batch nor tokens nor factors of these, and derived from no others, in the order of `axes`.
pub fn own_axes(variant: &Variant) -> Vec<AxisId> {
    let ids = (0..variant.axes.len()).map(|place| AxisId(place as u32));
    let batch = batch_axes(variant);
    let own = |id: &AxisId| {
        let axis = &variant.axes[id.0 as usize];
        let named = ["B", "H"].contains(&axis.name.as_str()) || batch.contains(id) || variant.token == Some(*id);
        axis.value.is_none() && !named && !in_batch_axis(variant, *id) && !in_grid(variant, *id)
    };
    ids.filter(own).collect()
}

fn bind(variant: &Variant, dims: &BTreeMap<String, usize>) -> Result<Sizes, Vec<String>> {
    let dims: Vec<(String, usize)> = dims.iter().map(|(name, size)| (name.clone(), *size)).collect();
    bind_dims(variant, &dims).map_err(|errors| errors.into_iter().map(|error: BindError| error.message).collect())
}

/// Sizes in which the last free axis is whatever the others leave it; the first as near the root as it can be.
fn factors(variant: &Variant, dims: &BTreeMap<String, usize>, free: &[String], size: usize) -> Option<Sizes> {
    let (last, others) = free.split_last()?;
    let mut dims = dims.clone();
    dims.remove(last);
    let Some(first) = others.first() else { return bind(variant, &dims).ok() };
    (0..=size.isqrt()).rev().find_map(|candidate| {
        dims.insert(first.clone(), candidate);
        bind(variant, &dims).ok()
    })
}
