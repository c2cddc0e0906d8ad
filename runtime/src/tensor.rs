//! Tensors in memory and in safetensors files: reading, and writing without leaving half a file. What a variant
//! expects of them is not here (`inputs`).

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use safetensors::{Dtype as FileDtype, SafeTensors, View, tensor::TensorView};

use crate::{floats::Floats, whole};

/// A dense tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Data,
}

/// The elements of a tensor; as many as the product of its shape.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    F32(Floats),
    I32(Vec<i32>),
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// The elements of a tensor; as many as there are numbers where the product passes them.
pub(crate) fn elements(shape: &[usize]) -> usize {
    if shape.contains(&0) { 0 } else { shape.iter().fold(1, |all: usize, n| all.saturating_mul(*n)) }
}

impl Tensor {
    pub fn f32(shape: Vec<usize>, data: Vec<f32>) -> Self {
        Self { shape, data: Data::F32(Floats::from(&data[..])) }
    }

    pub fn i32(shape: Vec<usize>, data: Vec<i32>) -> Self {
        Self { shape, data: Data::I32(data) }
    }

    /// A tensor of f32 zeros.
    pub fn zeros(shape: Vec<usize>) -> Self {
        let len = elements(&shape);
        Self { shape, data: Data::F32(Floats::zeros(len)) }
    }

    /// Bytes of the elements.
    pub fn bytes(&self) -> usize {
        4 * self.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::F32(data) => data.len(),
            Data::I32(data) => data.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements, if they are f32.
    pub fn floats(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(data) => Some(data),
            Data::I32(_) => None,
        }
    }

    /// The elements as f64, in order.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            Data::F32(data) => data.iter().map(|&x| f64::from(x)).collect(),
            Data::I32(data) => data.iter().map(|&x| f64::from(x)).collect(),
        }
    }

    /// Indices `range` of the axis `axis`.
    pub fn slice(&self, axis: usize, range: std::ops::Range<usize>) -> Tensor {
        let mut shape = self.shape.clone();
        shape[axis] = range.len();
        let data = match &self.data {
            Data::F32(data) => return Tensor::f32(shape, sliced(data, &self.shape, axis, range)),
            Data::I32(data) => Data::I32(sliced(data, &self.shape, axis, range)),
        };
        Tensor { shape, data }
    }
}

fn sliced<T: Copy>(data: &[T], shape: &[usize], axis: usize, range: std::ops::Range<usize>) -> Vec<T> {
    let inner: usize = shape[axis + 1..].iter().product();
    let block = shape[axis] * inner;
    if block == 0 || range.is_empty() {
        return Vec::new();
    }
    data.chunks_exact(block).flat_map(|outer| &outer[range.start * inner..range.end * inner]).copied().collect()
}

/// A tensor as it lies in a file: of a type that may not be supported.
#[derive(Debug, Clone)]
pub struct Stored {
    pub shape: Vec<usize>,
    /// The type's name in the file: `F32`, `BF16`; of i64, the number that i32 does not hold too.
    pub dtype: String,
    /// As f32 what is f32, bf16 or f16, as i32 what is i32, or i64 and fits. None for another type.
    pub tensor: Option<Tensor>,
    /// What real numbers lay in the file as.
    pub real: Option<Real>,
}

/// How real numbers lie in a file; in memory they are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Real {
    F32,
    Bf16,
    F16,
}

/// Why a file could not be read.
#[derive(Debug)]
pub enum ReadError {
    /// It cannot be opened.
    Absent { path: PathBuf, error: io::Error },
    /// It is no safetensors file, or is cut short.
    Damaged { path: PathBuf, why: String },
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReadError::Absent { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            ReadError::Damaged { path, why } => {
                write!(f, "{} is not a safetensors file, or is damaged: {why}", path.display())
            }
        }
    }
}

impl std::error::Error for ReadError {}

/// All tensors of a safetensors file.
pub fn read(path: &Path) -> Result<BTreeMap<String, Stored>, ReadError> {
    let bytes = fs::read(path).map_err(|error| ReadError::Absent { path: path.to_path_buf(), error })?;
    let damaged = |why: String| ReadError::Damaged { path: path.to_path_buf(), why };
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(explain(&bytes, &error)))?;
    Ok(file.iter().map(|(name, view)| (name.to_string(), stored(&view))).collect())
}

fn stored(view: &TensorView<'_>) -> Stored {
    let shape = view.shape().to_vec();
    let real = match view.dtype() {
        FileDtype::F32 => Some(Real::F32),
        FileDtype::BF16 => Some(Real::Bf16),
        FileDtype::F16 => Some(Real::F16),
        _ => None,
    };
    let mut dtype = format!("{:?}", view.dtype());
    let data = match view.dtype() {
        FileDtype::F32 => Some(reals(words(view.data()).map(f32::from_le_bytes))),
        FileDtype::BF16 => Some(reals(words(view.data()).map(|word| bf16::from_le_bytes(word).to_f32()))),
        FileDtype::F16 => Some(reals(words(view.data()).map(|word| f16::from_le_bytes(word).to_f32()))),
        FileDtype::I32 => Some(Data::I32(words(view.data()).map(i32::from_le_bytes).collect())),
        FileDtype::I64 => {
            let narrow = |x: i64| i32::try_from(x).map_err(|_| x);
            match words(view.data()).map(i64::from_le_bytes).map(narrow).collect() {
                Ok(all) => Some(Data::I32(all)),
                Err(x) => {
                    dtype = format!("I64 with {x}, which int32 does not hold");
                    None
                }
            }
        }
        _ => None,
    };
    let tensor = data.map(|data| Tensor { shape: shape.clone(), data });
    Stored { shape, dtype, tensor, real }
}

fn words<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.as_chunks::<N>().0.iter().copied()
}

fn reals(all: impl Iterator<Item = f32>) -> Data {
    Data::F32(Floats::from(&all.collect::<Vec<f32>>()[..]))
}

/// What is wrong with a file's bytes: says where a file is cut short, which the format's own errors do not.
fn explain(bytes: &[u8], error: &safetensors::SafeTensorError) -> String {
    let Some(head) = bytes.first_chunk::<8>() else {
        return format!("it ends after {} bytes, within the 8 of the header's length", bytes.len());
    };
    match u64::from_le_bytes(*head) {
        n if n > 100_000_000 => format!("it begins with no sensible header length ({error})"),
        n if n + 8 > bytes.len() as u64 => {
            format!("it ends after {} bytes, within a header of {n}: it is cut short", bytes.len())
        }
        n if SafeTensors::read_metadata(bytes).is_ok() => {
            format!("it holds {} bytes of data, not what its header says", bytes.len() as u64 - n - 8)
        }
        _ => error.to_string(),
    }
}

/// A tensor on its way into a file.
struct Written<'t> {
    tensor: &'t Tensor,
    real: Real,
}

impl View for Written<'_> {
    fn dtype(&self) -> FileDtype {
        match (&self.tensor.data, self.real) {
            (Data::I32(_), _) => FileDtype::I32,
            (_, Real::F32) => FileDtype::F32,
            (_, Real::Bf16) => FileDtype::BF16,
            (_, Real::F16) => FileDtype::F16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        let bytes: Vec<u8> = match (&self.tensor.data, self.real) {
            (Data::I32(data), _) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            (Data::F32(data), Real::F32) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
            (Data::F32(data), Real::Bf16) => data.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
            (Data::F32(data), Real::F16) => data.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        };
        bytes.into()
    }

    fn data_len(&self) -> usize {
        match self.dtype() {
            FileDtype::BF16 | FileDtype::F16 => 2 * self.tensor.len(),
            _ => self.tensor.bytes(),
        }
    }
}

/// Writes tensors as a safetensors file: the whole file, or nothing.
pub fn write(path: &Path, tensors: &Tensors) -> io::Result<()> {
    write_as(path, tensors, &|_| Real::F32)
}

/// The same with real numbers as `real` says for a tensor's name, rounded to the nearest; what f16 does not hold becomes
/// infinite.
pub fn write_as(path: &Path, tensors: &Tensors, real: &dyn Fn(&str) -> Real) -> io::Result<()> {
    let written = tensors.iter().map(|(name, tensor)| (name, Written { tensor, real: real(name) }));
    let bytes = safetensors::serialize(written, None).map_err(io::Error::other)?;
    whole::write(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("chunkwise-tensor-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = folder("roundtrip");
        let path = folder.join("x.safetensors");
        let tensors = Tensors::from([
            ("q".to_string(), Tensor::f32(vec![2, 3], vec![0.5, -1.0, f32::NAN, 3.0, 4.0, 1e-30])),
            ("none".to_string(), Tensor::zeros(vec![2, 0, 3])),
            ("ids".to_string(), Tensor::i32(vec![2], vec![-7, 9])),
        ]);
        write(&path, &tensors).unwrap();
        let back = read(&path).unwrap();
        assert_eq!(back.len(), 3);
        assert_eq!(back["ids"].tensor, Some(Tensor::i32(vec![2], vec![-7, 9])));
        assert_eq!(back["none"].shape, [2, 0, 3]);
        assert_eq!(back["q"].tensor.as_ref().unwrap().to_f64()[3], 3.0);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "a file beside it was left");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn halves_and_long_integers_are_converted_at_the_edge() {
        let folder = folder("halves");
        let path = folder.join("x.safetensors");
        let tensors = Tensors::from([
            ("o".to_string(), Tensor::f32(vec![3], vec![1.0, 1.0 + 1.0 / 256.0, 1e5])),
            ("S".to_string(), Tensor::f32(vec![1], vec![0.1])),
        ]);
        for (real, dtype, kept) in
            [(Real::Bf16, "BF16", [1.0, 1.0, 99_840.0]), (Real::F16, "F16", [1.0, 257.0 / 256.0, f64::INFINITY])]
        {
            write_as(&path, &tensors, &|name| if name == "o" { real } else { Real::F32 }).unwrap();
            let back = read(&path).unwrap();
            assert_eq!((back["o"].dtype.as_str(), back["o"].real), (dtype, Some(real)));
            assert_eq!(back["o"].tensor.as_ref().unwrap().to_f64(), kept);
            assert_eq!(back["S"].tensor, Some(Tensor::f32(vec![1], vec![0.1])));
        }
        let long = |x: i64| {
            let bytes: Vec<u8> = [3, x].iter().flat_map(|x| x.to_le_bytes()).collect();
            let view = TensorView::new(FileDtype::I64, vec![2], &bytes).unwrap();
            stored(&view)
        };
        assert_eq!(long(-9).tensor, Some(Tensor::i32(vec![2], vec![3, -9])));
        assert!(long(1 << 31).tensor.is_none() && long(1 << 31).dtype.contains("2147483648"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_damaged_file_is_an_error_that_says_so() {
        let folder = folder("damaged");
        let path = folder.join("x.safetensors");
        write(&path, &Tensors::from([("q".to_string(), Tensor::zeros(vec![100]))])).unwrap();
        let whole = fs::read(&path).unwrap();
        for keep in [0, 4, 20, whole.len() - 1] {
            fs::write(&path, &whole[..keep]).unwrap();
            assert!(matches!(read(&path), Err(ReadError::Damaged { .. })), "{keep} bytes");
        }
        fs::write(&path, "this is no tensor file at all").unwrap();
        assert!(matches!(read(&path), Err(ReadError::Damaged { .. })));
        assert!(matches!(read(&folder.join("absent")), Err(ReadError::Absent { .. })));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn slices_are_taken_of_any_axis() {
        let x = Tensor::f32(vec![2, 3, 2], (0..12).map(|x| x as f32).collect());
        assert_eq!(x.slice(1, 1..3), Tensor::f32(vec![2, 2, 2], vec![2., 3., 4., 5., 8., 9., 10., 11.]));
        assert_eq!(x.slice(1, 1..1).shape, [2, 0, 2]);
    }
}
