//! Where everything of one run lies and in which launches its work items come: arithmetic alone, no device. What a
//! device cannot hold at once is found here.

use chunkwise_compiler::codegen::wgsl::{Code, Contents, Limits, Word};
use chunkwise_compiler::kernel::{BufferId, Module};

use crate::launch::{Fit, RunError};

/// Buffers that share a binding start at multiples of so many elements.
const APART: u64 = 64;

/// Bytes of working memory that one launch may use, where bindings may be larger.
const MOST_SPILL: u64 = 1 << 30;

/// A buffer of the module in its binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) binding: usize,
    /// Elements, of the binding's type.
    pub(super) first: u64,
}

/// Work items `first..first + count` of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) shader: usize,
    pub(super) first: i64,
    pub(super) count: i64,
    /// Workgroups, x by y.
    pub(super) groups: [u32; 2],
}

/// A run laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    /// Of every buffer that is bound.
    pub(super) places: Vec<Option<Place>>,
    /// Bytes of every binding but that of the params, which has 0.
    pub(super) bytes: Vec<u64>,
    /// Of all kernels, in order.
    pub(super) steps: Vec<Step>,
}

impl Layout {
    /// Lays out a run of these sizes.
    ///
    /// # Errors
    /// A binding or a work item's working memory that is larger than the device's bindings.
    pub(super) fn new(module: &Module, code: &Code, fit: &Fit, limits: &Limits) -> Result<Self, RunError> {
        let mut places = vec![None; module.buffers.len()];
        let mut bytes = Vec::new();
        let spill = code.spill + code.late.iter().map(|id| fit.sizes[id.index()] as u64).sum::<u64>();
        let in_launch = in_launch(spill, limits)?;
        let steps = steps(module, code, fit, (in_launch, limits.groups));
        for (binding, bound) in code.bindings.iter().enumerate() {
            let (what, elements) = match &bound.contents {
                Contents::Params => (String::new(), 0),
                Contents::Spill => {
                    let most = steps.iter().map(|step| step.count as u64).max().unwrap_or(0);
                    ("working memory".to_owned(), spill * most)
                }
                Contents::Buffers(buffers) => {
                    let names: Vec<String> =
                        buffers.iter().map(|id| format!("`{}`", module.buffers[id.index()].name)).collect();
                    (names.join(" with "), together(buffers, fit, (&mut places, binding)))
                }
            };
            let total = (elements * bound.elem.bytes()).next_multiple_of(4);
            if total > limits.binding_bytes {
                return Err(RunError::TooLarge { what, bytes: total, most: limits.binding_bytes });
            }
            bytes.push(if bound.contents == Contents::Params { 0 } else { total.max(16) });
        }
        Ok(Self { places, bytes, steps })
    }

    /// The params of one launch as the uniform holds them.
    ///
    /// # Errors
    /// A param that an i32 does not hold.
    pub(super) fn words(&self, code: &Code, fit: &Fit, step: &Step) -> Result<Vec<i32>, RunError> {
        let value = |word: &Word| match word {
            Word::First => step.first,
            Word::Count => step.count,
            Word::Param(param) => fit.params[param.index()],
            Word::Offset(buffer) => self.places[buffer.index()].map_or(0, |place| place.first as i64),
        };
        let word = |word: &Word| {
            let value = value(word);
            i32::try_from(value).map_err(|_| RunError::WrongSize("a size".to_owned(), value))
        };
        let mut words = code.words.iter().map(word).collect::<Result<Vec<_>, _>>()?;
        words.resize(words.len().next_multiple_of(4).max(4), 0);
        Ok(words)
    }
}

/// Puts buffers one after another; the elements of all.
fn together(buffers: &[BufferId], fit: &Fit, (places, binding): (&mut [Option<Place>], usize)) -> u64 {
    let mut end = 0u64;
    for id in buffers {
        let first = end.next_multiple_of(APART);
        places[id.index()] = Some(Place { binding, first });
        end = first + fit.sizes[id.index()] as u64;
    }
    end
}

/// Work items that the working memory of one launch serves, each of which takes so many elements.
fn in_launch(spill: u64, limits: &Limits) -> Result<i64, RunError> {
    if spill == 0 {
        return Ok(i64::MAX);
    }
    match limits.binding_bytes.min(MOST_SPILL) / (4 * spill) {
        0 => Err(RunError::TooLarge {
            what: "the working memory of one work item".to_owned(),
            bytes: 4 * spill,
            most: limits.binding_bytes.min(MOST_SPILL),
        }),
        items => Ok(items as i64),
    }
}

fn steps(module: &Module, code: &Code, fit: &Fit, (in_launch, groups): (i64, u32)) -> Vec<Step> {
    let most = in_launch.min(i64::from(groups) * i64::from(groups)).min(i64::from(i32::MAX));
    let mut steps = Vec::new();
    for (place, shader) in code.shaders.iter().enumerate() {
        let items = fit.items(&module.kernels[shader.kernel]);
        let mut first = 0;
        while first < items {
            let count = most.min(items - first);
            let x = count.min(i64::from(groups));
            steps.push(Step { shader: place, first, count, groups: [x as u32, ((count + x - 1) / x) as u32] });
            first += count;
        }
    }
    steps
}
