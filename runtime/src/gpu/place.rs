//! Where everything of one run lies and in which launches its work items come: arithmetic alone, no device. What a
//! device cannot hold at once is found here.

use std::ops::Range;

use chunkwise_compiler::codegen::wgsl::{Code, Contents, Limits, Word};
use chunkwise_compiler::kernel::{BufferId, Module};

use super::stretch::{Bound, Stretch, stretches};
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

/// Trips that a dispatch may take at the least, however many work items it has: one that is shorter costs more than it does.
const SHORTEST: u64 = 1 << 13;

/// How fast a device is thought to be, and how long it is to be left to itself: drivers end what takes seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Workgroups at a time.
    pub(super) at_once: i64,
    /// Trips, one after another, that the device does between two submissions.
    pub(super) trips: u64,
}

impl Pace {
    /// Workgroups one after another.
    fn turns(&self, items: i64) -> u64 {
        (items.max(0) as u64).div_ceil(self.at_once.max(1) as u64).max(1)
    }
}

/// A stretch of a kernel for its work items `first..first + count`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) shader: usize,
    pub(super) first: i64,
    pub(super) count: i64,
    /// Workgroups, x by y.
    pub(super) groups: [u32; 2],
    pub(super) stretch: Stretch,
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
    /// Steps that are submitted together; at least one range.
    pub(super) submissions: Vec<Range<usize>>,
    /// Elements of working memory that a work item has beside what stretches hand on.
    spill: u64,
}

impl Layout {
    /// Lays out a run of these sizes.
    ///
    /// # Errors
    /// A binding or a work item's working memory that is larger than the device's bindings, or more trips through loops
    /// than a dispatch may take where a kernel cannot be cut.
    pub(super) fn new(
        (module, code): (&Module, &Code),
        fit: &Fit,
        (limits, pace): (&Limits, &Pace),
    ) -> Result<Self, RunError> {
        let mut places = vec![None; module.buffers.len()];
        let mut bytes = Vec::new();
        let spill = code.spill + code.late.iter().map(|id| fit.sizes[id.index()] as u64).sum::<u64>();
        let steps = steps((module, code), fit, spill, (limits, pace))?;
        let kept = |step: &Step| if step.is_part(code) { code.shaders[step.shader].kept } else { 0 };
        let working = steps.iter().map(|step| (spill + kept(step)) * step.count as u64).max().unwrap_or(0);
        for (binding, bound) in code.bindings.iter().enumerate() {
            let (what, elements) = match &bound.contents {
                Contents::Params => (String::new(), 0),
                Contents::Spill => ("working memory".to_owned(), working),
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
        let submissions = submissions(&steps, pace);
        Ok(Self { places, bytes, steps, submissions, spill })
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
            Word::Begin(n) => step.stretch.begin.get(*n).copied().unwrap_or(0),
            Word::End(n) => step.stretch.end.get(*n).copied().unwrap_or(0),
            Word::Kept => self.spill as i64 * step.count,
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

impl Step {
    /// Whether it is one of several stretches.
    fn is_part(&self, code: &Code) -> bool {
        let Stretch { begin, end, .. } = &self.stretch;
        !begin.is_empty() || *end != [code.shaders[self.shader].units.len() as i64]
    }
}

/// Every kernel for all its work items, as many at once as memory, the grid and time allow; for those, stretch by stretch.
fn steps(
    (module, code): (&Module, &Code),
    fit: &Fit,
    spill: u64,
    (limits, pace): (&Limits, &Pace),
) -> Result<Vec<Step>, RunError> {
    let mut steps = Vec::new();
    for (shader, written) in code.shaders.iter().enumerate() {
        let items = fit.items(&module.kernels[written.kernel]);
        if items == 0 {
            continue;
        }
        let wanted = (pace.trips / pace.turns(items)).max(SHORTEST);
        let bound = Bound { wanted, most: limits.trips };
        let all = stretches(written, &|param| fit.params[param.index()], bound)
            .map_err(|trips| RunError::TooLong { trips, most: limits.trips })?;
        let longest = all.iter().map(|stretch| stretch.trips).max().unwrap_or(0);
        let turns = (pace.trips / longest.max(1)).clamp(1, i64::MAX as u64) as i64;
        let groups = i64::from(limits.groups);
        let kept = if all.len() > 1 { written.kept } else { 0 };
        let most = in_launch(spill + kept, limits)?
            .min(groups * groups)
            .min(i64::from(i32::MAX))
            .min(pace.at_once.saturating_mul(turns));
        let mut first = 0;
        while first < items {
            let count = most.min(items - first);
            let x = count.min(groups);
            let groups = [x as u32, ((count + x - 1) / x) as u32];
            steps.extend(all.iter().map(|stretch| Step { shader, first, count, groups, stretch: stretch.clone() }));
            first += count;
        }
    }
    Ok(steps)
}

/// Steps that take no longer together than the device is to be left to itself.
fn submissions(steps: &[Step], pace: &Pace) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut first, mut spent) = (0, 0u64);
    for (place, step) in steps.iter().enumerate() {
        let trips = pace.turns(step.count).saturating_mul(step.stretch.trips);
        if place > first && spent.saturating_add(trips) > pace.trips {
            found.push(first..place);
            (first, spent) = (place, 0);
        }
        spent = spent.saturating_add(trips);
    }
    found.push(first..steps.len());
    found
}
