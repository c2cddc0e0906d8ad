//! Functions of scalars that are written out, on f32 or f32x4; those that are called are in `routine`.

use chunkwise_dsl::typed::Function;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::types::{F32, F32X4};
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, Value};
use cranelift_frontend::FunctionBuilder;

use crate::kernel::Value as Tree;

/// `x` in the lanes of `like`.
fn constant(b: &mut FunctionBuilder<'_>, like: Value, x: f32) -> Value {
    let ty = b.func.dfg.value_type(like);
    let one = b.ins().f32const(x);
    if ty == F32 { one } else { b.ins().splat(ty, one) }
}

/// The function's value; conditions and called functions are not among them.
pub(super) fn call(b: &mut FunctionBuilder<'_>, function: Function, args: &[Value]) -> Value {
    use Function::*;
    let x = args[0];
    match (function, args) {
        (Add, [x, y]) => b.ins().fadd(*x, *y),
        (Sub, [x, y]) => b.ins().fsub(*x, *y),
        (Mul, [x, y]) => b.ins().fmul(*x, *y),
        (Div, [x, y]) => b.ins().fdiv(*x, *y),
        (Min, [x, y]) => b.ins().fmin(*x, *y),
        (Max, [x, y]) => b.ins().fmax(*x, *y),
        (Clamp, [x, low, high]) => {
            let above = b.ins().fmax(*x, *low);
            b.ins().fmin(above, *high)
        }
        (Neg, _) => b.ins().fneg(x),
        (Sqrt, _) => b.ins().sqrt(x),
        (Rsqrt, _) => {
            let (one, root) = (constant(b, x, 1.0), b.ins().sqrt(x));
            b.ins().fdiv(one, root)
        }
        (Abs, _) => b.ins().fabs(x),
        (Floor, _) => b.ins().floor(x),
        (Round, _) => b.ins().nearest(x),
        (Sign, _) => {
            let [zero, one, minus] = [0.0, 1.0, -1.0].map(|c| constant(b, x, c));
            let (up, down) = (b.ins().fcmp(FloatCC::GreaterThan, x, zero), b.ins().fcmp(FloatCC::LessThan, x, zero));
            let low = choose(b, down, minus, x);
            choose(b, up, one, low)
        }
        (Relu, _) => {
            let zero = constant(b, x, 0.0);
            let below = b.ins().fcmp(FloatCC::LessThan, x, zero);
            choose(b, below, zero, x)
        }
        (ExpOfRest, _) => {
            let (zero, one) = (constant(b, x, 0.0), constant(b, x, 1.0));
            let (near, sum) = (b.ins().fcmp(FloatCC::LessThan, x, zero), b.ins().fadd(x, one));
            choose(b, near, sum, x)
        }
        (RestLost, _) => {
            let (zero, one) = (constant(b, x, 0.0), constant(b, x, 1.0));
            let (near, sum) = (b.ins().fcmp(FloatCC::LessThan, x, zero), b.ins().fadd(x, one));
            let kept = b.ins().fsub(sum, one);
            let lost = b.ins().fsub(x, kept);
            choose(b, near, lost, zero)
        }
        // `kernel::check` counts arguments, and every other function is called or is a condition.
        _ => x,
    }
}

/// `yes` where `holds`, else `no`: an i8 chooses between f32, lanes of all ones or zeros between lanes.
pub(super) fn choose(b: &mut FunctionBuilder<'_>, holds: Value, yes: Value, no: Value) -> Value {
    if b.func.dfg.value_type(yes) == F32 {
        return b.ins().select(holds, yes, no);
    }
    let mask = b.ins().bitcast(F32X4, MemFlagsData::new().with_endianness(Endianness::Little), holds);
    b.ins().bitselect(mask, yes, no)
}

/// The opposite of a condition.
pub(super) fn not(b: &mut FunctionBuilder<'_>, holds: Value) -> Value {
    if b.func.dfg.value_type(holds).is_vector() { b.ins().bnot(holds) } else { b.ins().bxor_imm_u(holds, 1) }
}

/// An exponent that multiplications or a root do.
pub(super) fn is_product(exponent: &Tree) -> Option<f64> {
    match exponent {
        Tree::Const(c) if c.abs() == 0.5 || (c.fract() == 0.0 && c.abs() <= 32.0) => Some(*c),
        _ => None,
    }
}

/// A power to such an exponent.
pub(super) fn power(b: &mut FunctionBuilder<'_>, x: Value, exponent: f64) -> Value {
    if exponent == 0.5 {
        return b.ins().sqrt(x);
    }
    if exponent == -0.5 {
        return call(b, Function::Rsqrt, &[x]);
    }
    let mut left = exponent.abs() as u32;
    let (mut square, mut result) = (x, None);
    while left > 0 {
        if left & 1 == 1 {
            result = Some(result.map_or(square, |so_far| b.ins().fmul(so_far, square)));
        }
        left >>= 1;
        if left > 0 {
            square = b.ins().fmul(square, square);
        }
    }
    let one = constant(b, x, 1.0);
    match result {
        None => one,
        Some(result) if exponent < 0.0 => b.ins().fdiv(one, result),
        Some(result) => result,
    }
}
