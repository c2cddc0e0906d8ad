//! What one run of a module is given: sizes, tensors, states. Everything is checked against the module here, and its
//! accesses are proved to stay inside at these sizes, before any compiled code sees a pointer. Not here: running (`cpu`),
//! or making modules.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use chunkwise_compiler::kernel::{
    self, Buffer, BufferRole, Checked, Elem, Integers, Kernel, Param, ParamRole, interp, within,
};

use crate::{named::Named, tensor::Tensors};

/// An input tensor, whole, row-major.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    F32(&'a [f32]),
    I32(&'a [i32]),
}

impl Input<'_> {
    fn len(self) -> usize {
        match self {
            Input::F32(data) => data.len(),
            Input::I32(data) => data.len(),
        }
    }

    fn elem(self) -> Elem {
        match self {
            Input::F32(_) => Elem::F32,
            Input::I32(_) => Elem::I32,
        }
    }
}

/// One run. Names are those of the module's params and buffers; what a module does not name is ignored.
#[derive(Debug)]
pub struct Launch<'a> {
    pub sizes: &'a BTreeMap<String, i64>,
    /// Tokens in a chunk.
    pub chunk: i64,
    /// Value tiles wanted, where the module can take them.
    pub tiles: i64,
    pub inputs: BTreeMap<&'a str, Input<'a>>,
    pub states_in: BTreeMap<&'a str, &'a [f32]>,
    pub outputs: BTreeMap<&'a str, &'a mut [f32]>,
    pub states_out: BTreeMap<&'a str, &'a mut [f32]>,
}

/// One of many calls whose sizes, names and number of tensors were settled before.
#[cfg_attr(not(any(feature = "cranelift", feature = "llvm")), allow(dead_code, reason = "nothing compiles"))]
pub(crate) struct Bound<'a> {
    pub(crate) inputs: &'a Tensors,
    pub(crate) outputs: &'a mut [Named],
    /// Initial states; not looked at where states are carried in place.
    pub(crate) start: &'a [Named],
    /// Final states.
    pub(crate) states: &'a mut [Named],
}

/// Runs that were prepared.
pub(crate) trait Steps: Send {
    /// Runs once. Allocates nothing.
    ///
    /// # Errors
    /// A tensor that is missing, or of another length or type; nothing has run then.
    fn step(&mut self, bound: &mut Bound<'_>) -> Result<(), RunError>;
}

/// Why a module does not run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunError {
    /// No size of this axis.
    MissingSize(String),
    /// No tensor or state of this name.
    MissingTensor(String),
    /// A tensor of another length than the module's sizes say.
    WrongLength { name: String, wanted: usize, given: usize },
    /// An i32 tensor where f32 is wanted, or the reverse.
    WrongElement(String),
    /// A buffer of fewer than 0 elements, or more than memory can hold.
    WrongSize(String, i64),
    /// An access that is not known to stay inside its buffer.
    Fault(interp::Fault),
    /// The code does not load.
    Load(String),
    /// What a device cannot hold at once, its bytes, and how many it can.
    TooLarge { what: String, bytes: u64, most: u64 },
    /// Trips through the loops of a kernel that cannot be cut, and how many a dispatch may take.
    TooLong { trips: u64, most: u64 },
    /// The device failed: it was lost, its memory is exhausted, or its driver refused.
    Device(String),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::MissingSize(axis) => write!(f, "no size given for axis {axis}"),
            RunError::MissingTensor(name) => write!(f, "no tensor given for `{name}`"),
            RunError::WrongLength { name, wanted, given } => {
                write!(f, "`{name}` has {given} elements, but its shape has {wanted}")
            }
            RunError::WrongElement(name) => write!(f, "`{name}` has another element type than declared"),
            RunError::WrongSize(name, n) => write!(f, "`{name}` cannot have {n} elements of 4 bytes"),
            RunError::Fault(fault) => fault.fmt(f),
            RunError::Load(message) => write!(f, "the compiled code does not load: {message}"),
            RunError::TooLarge { what, bytes, most } => {
                write!(f, "{what} takes {bytes} bytes, more than the {most} that the GPU holds in one binding")
            }
            RunError::TooLong { trips, most } => write!(
                f,
                "a step of this form takes {trips} trips through its loops, and a dispatch of this GPU may take {most} \
                 (its limit `trips`): use --form chunked or recurrent, or fewer tokens"
            ),
            RunError::Device(message) => write!(f, "the GPU failed: {message}"),
        }
    }
}

impl std::error::Error for RunError {}

/// A launch that fits its module: at these sizes no access leaves its buffer.
#[derive(Debug)]
pub(crate) struct Fit {
    /// A value a param; 0 for those of the grid.
    pub(crate) params: Vec<i64>,
    /// Elements a buffer.
    pub(crate) sizes: Vec<usize>,
}

/// The most elements of a buffer: what is larger is a slip, and its bytes would come near the ends of integers.
const LARGEST: i64 = 1 << 40;

/// Launches whose proofs are kept, the oldest are forgotten first.
const PROVED: usize = 64;

/// Which launches a module admits.
pub(crate) struct Admission {
    module: Checked,
    /// The value of every param that its code was made for; what a launch says of it is ignored.
    fixed: Vec<Option<i64>>,
    /// The params of launches that were proved.
    proved: Mutex<Vec<(Vec<i64>, Integers)>>,
}

impl Admission {
    /// Of code that reads every param when it runs.
    pub(crate) fn new(module: Checked) -> Self {
        Self { module, fixed: Vec::new(), proved: Mutex::default() }
    }

    /// Of code that has some params put in.
    #[cfg_attr(not(feature = "wgpu"), allow(dead_code, reason = "shaders have params put in"))]
    pub(crate) fn with(self, fixed: Vec<Option<i64>>) -> Self {
        Self { fixed, ..self }
    }

    pub(crate) fn module(&self) -> &Checked {
        &self.module
    }

    /// What sizes give: the params and the buffers' elements, whatever tensors come with them.
    ///
    /// # Errors
    /// A size that is missing, a buffer that is too large, an access that is not proved to stay inside.
    pub(crate) fn measure(&self, launch: &Launch<'_>) -> Result<Fit, RunError> {
        let params = self.module.params.iter().enumerate().map(|(place, param)| self.value(place, param, launch));
        let params = params.collect::<Result<Vec<_>, _>>()?;
        self.prove(&params, Integers::I64)?;
        let size = |buffer: &Buffer| {
            // No integer of a proof saturates.
            let n = buffer.size.eval(&|p| params.get(p.index()).copied().unwrap_or(0), &|_| 0);
            let fits = usize::try_from(n).ok().filter(|_| n <= LARGEST);
            fits.ok_or_else(|| RunError::WrongSize(buffer.name.clone(), n))
        };
        let sizes = self.module.buffers.iter().map(size).collect::<Result<Vec<_>, _>>()?;
        Ok(Fit { params, sizes })
    }

    fn value(&self, place: usize, param: &Param, launch: &Launch<'_>) -> Result<i64, RunError> {
        if let Some(value) = self.fixed.get(place).copied().flatten() {
            return Ok(value);
        }
        let of = |axis: &String| launch.sizes.get(axis).copied().ok_or_else(|| RunError::MissingSize(axis.clone()));
        match &param.role {
            ParamRole::Size(axis) => of(axis),
            ParamRole::Chunk => Ok(launch.chunk),
            ParamRole::Tile(axis) => {
                let size = of(axis)?;
                Ok((size / kernel::tiles(size, launch.tiles)).max(1))
            }
            ParamRole::Grid => Ok(0),
        }
    }

    /// Proves that at these params all accesses stay inside, in code that computes with such integers.
    ///
    /// # Errors
    /// An access of which it is not proved.
    pub(crate) fn prove(&self, params: &[i64], integers: Integers) -> Result<(), RunError> {
        let mut proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        if proved.iter().any(|(known, of)| known == params && *of == integers) {
            return Ok(());
        }
        within(&self.module, params, integers).map_err(RunError::Fault)?;
        if proved.len() == PROVED {
            proved.remove(0);
        }
        proved.push((params.to_vec(), integers));
        Ok(())
    }

    /// Checks that a launch gives everything a module needs, in the right sizes.
    ///
    /// # Errors
    /// As `measure`, and a tensor that is missing or of another length or type.
    pub(crate) fn fit(&self, launch: &Launch<'_>) -> Result<Fit, RunError> {
        let fit = self.measure(launch)?;
        for (buffer, &wanted) in self.module.buffers.iter().zip(&fit.sizes) {
            let name = buffer.name.as_str();
            let given = match buffer.role {
                BufferRole::Shared | BufferRole::Scratch => continue,
                BufferRole::Input => launch.inputs.get(name).map(|x| (x.len(), x.elem())),
                BufferRole::StateIn => launch.states_in.get(name).map(|x| (x.len(), Elem::F32)),
                BufferRole::Output => launch.outputs.get(name).map(|x| (x.len(), Elem::F32)),
                BufferRole::StateOut => launch.states_out.get(name).map(|x| (x.len(), Elem::F32)),
            };
            let (given, elem) = given.ok_or_else(|| RunError::MissingTensor(name.to_owned()))?;
            if elem != buffer.elem {
                return Err(RunError::WrongElement(name.to_owned()));
            }
            if given != wanted {
                return Err(RunError::WrongLength { name: name.to_owned(), wanted, given });
            }
        }
        Ok(fit)
    }
}

#[cfg_attr(not(any(feature = "cranelift", feature = "llvm")), allow(dead_code, reason = "nothing compiles"))]
impl Fit {
    /// Extents of a kernel's grid.
    pub(crate) fn extents(&self, kernel: &Kernel) -> Vec<i64> {
        kernel.grid.iter().map(|axis| axis.extent.eval(&|p| self.params[p.index()], &|_| 0).max(0)).collect()
    }

    /// Work items of a kernel.
    pub(crate) fn items(&self, kernel: &Kernel) -> i64 {
        self.extents(kernel).iter().fold(1, |n: i64, extent| n.saturating_mul(*extent))
    }
}

/// Runs a module in the f64 interpreter of the kernel IR: slow, every access checked.
///
/// # Errors
/// A launch that does not fit, or an access outside its buffer.
pub fn interpret(module: &Checked, launch: &mut Launch<'_>) -> Result<(), RunError> {
    let Fit { params, sizes } = Admission::new(module.clone()).fit(launch)?;
    let wide = |data: &[f32]| data.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let mut buffers = Vec::new();
    for (buffer, size) in module.buffers.iter().zip(&sizes) {
        let name = buffer.name.as_str();
        buffers.push(match buffer.role {
            BufferRole::Input => match launch.inputs.get(name) {
                Some(Input::F32(data)) => wide(data),
                Some(Input::I32(data)) => data.iter().map(|&x| f64::from(x)).collect(),
                None => return Err(RunError::MissingTensor(name.to_owned())),
            },
            BufferRole::StateIn => launch.states_in.get(name).map(|x| wide(x)).unwrap_or_default(),
            BufferRole::Output => launch.outputs.get(name).map(|x| wide(x)).unwrap_or_default(),
            BufferRole::StateOut => launch.states_out.get(name).map(|x| wide(x)).unwrap_or_default(),
            BufferRole::Shared | BufferRole::Scratch => vec![0.0; *size],
        });
    }
    interp::run(module, &params, &mut buffers).map_err(RunError::Fault)?;
    for (buffer, data) in module.buffers.iter().zip(&buffers) {
        let to = match buffer.role {
            BufferRole::Output => launch.outputs.get_mut(buffer.name.as_str()),
            BufferRole::StateOut => launch.states_out.get_mut(buffer.name.as_str()),
            _ => None,
        };
        if let Some(to) = to {
            to.iter_mut().zip(data).for_each(|(to, x)| *to = *x as f32);
        }
    }
    Ok(())
}
