//! KERNEL CODE -> NUMBERS. The only crate that runs code, touches devices or reads tensor files. Knows no language: what
//! it runs is a typed variant that the compiler has turned into a kernel, or the compiler's own reference.

pub mod backend;
pub mod backends;
pub mod calibrate;
pub mod choose;
mod compiled;
pub mod compiles;
#[cfg(any(feature = "cranelift", feature = "llvm"))]
pub mod cpu;
pub mod device;
pub mod draw;
pub mod execute;
mod floats;
#[cfg(feature = "wgpu")]
pub mod gpu;
pub mod gradient;
pub mod initial;
pub mod inputs;
mod launch;
mod named;
mod permutation;
pub mod rates;
pub mod ready;
pub mod reference;
pub mod request;
pub mod room;
pub mod session;
mod split;
pub mod suspect;
pub mod tensor;
pub mod whole;

pub use backend::Backend;
pub use device::{Limit, Precision, Settings};
pub use execute::Engine;
pub use floats::Floats;
pub use launch::{Input, Launch, RunError, interpret};
pub use ready::{Lent, Ready};
pub use request::{Failure, Outputs, Plan, Request};
pub use session::{Session, View};
pub use split::independent;
pub use tensor::{Data, Tensor, Tensors};
