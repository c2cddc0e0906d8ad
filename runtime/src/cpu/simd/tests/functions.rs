//! Functions against their meaning in f64, over wide ranges, at their edges, and at every length.

use chunkwise_dsl::typed::Function;

use super::*;

/// The symbol of a function.
fn symbol(function: Function) -> String {
    let name = if function == Function::Pow { "pow" } else { function.name() };
    format!("vector_{name}")
}

fn apply(table: &Table, function: Function, x: &[f32], y: &[f32]) -> Vec<f32> {
    let address = routine(table, &symbol(function));
    let mut z = vec![0f32; x.len()];
    // SAFETY: functions of one and two arguments have these signatures; all slices are of one length.
    unsafe {
        if function.arity() == 1 {
            std::mem::transmute::<*const u8, UnaryFn>(address)(z.as_mut_ptr(), x.as_ptr(), x.len() as i64);
        } else {
            let f = std::mem::transmute::<*const u8, BinaryFn>(address);
            f(z.as_mut_ptr(), x.as_ptr(), y.as_ptr(), x.len() as i64);
        }
    }
    z
}

/// Compares within `relative` of the result or `absolute`, whichever is more, on every instruction set.
fn agree(function: Function, x: &[f32], y: &[f32], relative: f64, absolute: f64) {
    for table in tables() {
        let mut worst = (0.0, 0.0);
        for (i, got) in apply(&table, function, x, y).iter().enumerate() {
            let of = [f64::from(x[i]), f64::from(y[i])];
            let exact = function.eval(&of[..function.arity()]);
            let want = exact as f32;
            if *got == want || (got.is_nan() && want.is_nan()) {
                continue;
            }
            let error = (f64::from(*got) - exact).abs();
            if error / exact.abs() > worst.0 && error > absolute {
                worst = (error / exact.abs(), of[0]);
            }
            let near = error <= absolute.max(relative * exact.abs());
            assert!(near, "{function:?}{:?} {}: {got}, not {exact}", &of[..function.arity()], table.set);
        }
        println!("{function:?} {}: {:.1e} at {}", table.set, worst.0, worst.1);
    }
}

fn agree_one(function: Function, x: &[f32], relative: f64, absolute: f64) {
    agree(function, x, x, relative, absolute);
}

fn ramp(from: f64, to: f64) -> Vec<f32> {
    let n = 20_011;
    let mut all: Vec<f32> = (0..n).map(|i| (from + (to - from) * f64::from(i) / f64::from(n - 1)) as f32).collect();
    all.extend([0.0, -0.0, 1e-30, -1e-30, 1e-6, -1e-6, f32::NAN]);
    all
}

#[test]
fn exponentials_agree() {
    let mut x = ramp(-110.0, 95.0);
    x.extend([f32::NEG_INFINITY, f32::INFINITY, -1e4, 1e4, f32::MAX, f32::MIN]);
    agree_one(Function::Exp, &x, 3e-7, 1.5e-45);
    agree_one(Function::ExpRest, &x, 3e-7, 1.5e-45);
    agree_one(Function::Sigmoid, &x, 3e-7, 1e-37);
    agree_one(Function::Tanh, &x, 3e-7, 1e-37);
    agree_one(Function::Softplus, &x, 4e-7, 1e-44);
    agree_one(Function::LogSigmoid, &x, 4e-7, 1e-44);
    agree_one(Function::Elu, &x, 3e-7, 1e-37);
    let near = ramp(-2.0, 2.0);
    agree_one(Function::ExpRest, &ramp(-1e-3, 1e-4), 3e-7, 1e-37);
    for function in
        [Function::Exp, Function::ExpRest, Function::Tanh, Function::Elu, Function::Softplus, Function::Sigmoid]
    {
        agree_one(function, &near, 3e-7, 1e-37);
    }
    agree_one(Function::Silu, &ramp(-80.0, 90.0), 3e-7, 1e-33);
    agree_one(Function::Gelu, &ramp(-6.0, 20.0), 0.0, 4e-7);
    agree_one(Function::Gelu, &ramp(-0.5, 0.5), 4e-7, 1e-12);
    agree_one(Function::Gelu, &ramp(0.0, 20.0), 4e-7, 1e-12);
}

#[test]
fn exponentials_vanish_and_overflow_exactly() {
    for table in tables() {
        let x = [-1e4, -1e30, f32::NEG_INFINITY, -200.0, 1e4, f32::INFINITY, 0.0];
        let y = apply(&table, Function::Exp, &x, &x);
        assert_eq!(y, [0.0, 0.0, 0.0, 0.0, f32::INFINITY, f32::INFINITY, 1.0], "{}", table.set);
    }
}

#[test]
fn logarithms_and_roots_agree() {
    let mut x: Vec<f32> = ramp(-100.0, 88.0).iter().map(|x| x.exp()).collect();
    x.extend([0.0, -1.0, -1e-40, f32::NEG_INFINITY, f32::INFINITY, 1e-40, f32::NAN]);
    agree_one(Function::Ln, &x, 3e-7, 1e-7);
    agree_one(Function::Ln, &ramp(0.5, 2.0), 3e-7, 1e-7);
    agree_one(Function::Sqrt, &x, 1e-7, 1e-44);
    x.retain(|x| *x > 1e-37 || *x == 0.0);
    agree_one(Function::Rsqrt, &x, 2e-7, 0.0);
}

#[test]
fn waves_agree() {
    for function in [Function::Sin, Function::Cos] {
        agree_one(function, &ramp(-10.0, 10.0), 0.0, 2e-7);
        agree_one(function, &ramp(-1e6, 1e6), 0.0, 2e-7);
        agree_one(function, &ramp(-6.6e4, 6.6e4), 0.0, 2e-7);
        agree_one(function, &ramp(-0.5, 0.5), 3e-7, 1e-37);
        agree_one(function, &[1e30, -1e30, f32::MAX, f32::INFINITY, f32::NEG_INFINITY], 0.0, 2e-7);
    }
}

#[test]
fn divisions_agree() {
    let (x, y) = (ramp(-40.0, 40.0), ramp(7.0, -5.0));
    let halves: Vec<f32> = (-20..=20).map(|i| i as f32 / 2.0).collect();
    for function in [Function::Mod, Function::FloorDiv] {
        agree(function, &x, &y, 1.2e-7, 1e-44);
        agree(function, &halves, &vec![3.0; halves.len()], 1e-7, 0.0);
    }
}

#[test]
fn powers_agree() {
    let (x, y) = (ramp(0.01, 40.0), ramp(-9.0, 9.0));
    agree(Function::Pow, &x, &y, 1e-7, 1e-44);
    let signed = ramp(-8.0, 8.0);
    for exponent in [0.0, 1.0, 2.0, 3.0, 7.0, -1.0, -2.0, 0.5, 1.5, -0.5, 1e9, f32::INFINITY, f32::NAN] {
        agree(Function::Pow, &signed, &vec![exponent; signed.len()], 1e-7, 1e-44);
    }
    let edges = [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, 1e-40, 1e38, f32::NAN];
    for exponent in edges {
        agree(Function::Pow, &edges, &[exponent; 9], 1e-7, 1e-44);
    }
}

/// Nothing beyond the last element is touched, and dst may be the argument.
#[test]
fn every_length_ends_where_it_should() {
    for table in tables() {
        for function in [Function::Exp, Function::Sin, Function::Pow] {
            for n in 0..70usize {
                let x: Vec<f32> = numbers(n as u64 + 1, n).iter().map(|x| x.abs() + 0.1).collect();
                let want = apply(&table, function, &x, &x);
                let mut z = x.clone();
                z.push(f32::NAN);
                let (address, at) = (routine(&table, &symbol(function)), z.as_mut_ptr());
                // SAFETY: as in `apply`; z holds n elements and one more.
                unsafe {
                    if function.arity() == 1 {
                        std::mem::transmute::<*const u8, UnaryFn>(address)(at, at, n as i64);
                    } else {
                        std::mem::transmute::<*const u8, BinaryFn>(address)(at, at, at, n as i64);
                    }
                }
                assert_eq!(z[..n], want, "{function:?} {} of {n}", table.set);
                assert!(z[n].is_nan());
                let near = want.iter().zip(&x).all(|(got, x)| {
                    let x = f64::from(*x);
                    (f64::from(*got) - function.eval(&[x, x][..function.arity()])).abs() < 1e-6
                });
                assert!(near, "{function:?} {} of {n}", table.set);
            }
        }
    }
}
