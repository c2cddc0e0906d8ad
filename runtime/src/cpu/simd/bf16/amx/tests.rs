//! One block of sums against plain loops: the model everywhere, the processor's instructions where it has them. Whole
//! products are tested with those of the other engine.

use super::{BLOCK, BYTES, Block, Instructions, Model, Processor, permitted};

/// The bits of a number of bf16 that stands for a small integer.
fn bits(x: i32) -> u32 {
    (x as f32).to_bits() >> 16
}

/// Integers between -8 and 8, the same for the same place.
fn drawn(i: usize, j: usize) -> i32 {
    ((i * 31 + j * 17 + i * j * 7) % 17) as i32 - 8
}

/// A block of small integers, whose sums are exact, in strides wider than the block.
fn check<I: Instructions>(steps: usize, add: bool) {
    let size = BLOCK as usize;
    let (terms, pairs) = (size * steps, size * steps / 2);
    let [across, down, below] = [pairs + 16, size + 16, size + 5];
    let mut a = vec![u32::MAX; size * across];
    let mut b = vec![u32::MAX; pairs * down];
    let mut c = vec![f32::NAN; size * below];
    for i in 0..size {
        for p in 0..pairs {
            a[i * across + p] = bits(drawn(i, 2 * p)) | bits(drawn(i, 2 * p + 1)) << 16;
            b[p * down + i] = bits(drawn(2 * p, i)) | bits(drawn(2 * p + 1, i)) << 16;
        }
        c[i * below..][..size].fill(if add { i as f32 } else { f32::NAN });
    }
    let bytes = |stride: usize| stride as isize * BYTES;
    let block = Block {
        a: a.as_ptr(),
        across: bytes(across),
        b: b.as_ptr(),
        down: bytes(down),
        steps: steps as isize,
        c: c.as_mut_ptr(),
        below: bytes(below),
        add,
    };
    let session = I::session();
    // SAFETY: the operands hold a block under their strides, and this thread holds a session.
    unsafe { I::multiply(block) };
    drop(session);
    for (i, row) in c.chunks(below).enumerate() {
        assert!(row[size..].iter().all(|x| x.is_nan()), "wrote beside row {i}");
        for (j, got) in row[..size].iter().enumerate() {
            let sum: i32 = (0..terms).map(|l| drawn(i, l) * drawn(l, j)).sum();
            let want = (sum + if add { i as i32 } else { 0 }) as f32;
            assert_eq!(*got, want, "{steps} steps, add {add}, [{i},{j}]");
        }
    }
}

fn check_all<I: Instructions>() {
    for steps in [1, 2, 3, 8] {
        check::<I>(steps, false);
        check::<I>(steps, true);
    }
}

#[test]
fn the_model_multiplies_a_block() {
    check_all::<Model>();
}

#[test]
fn the_processor_multiplies_a_block_if_it_has_tiles() {
    if permitted() {
        check_all::<Processor>();
    }
}

/// Each thread configures tiles of its own, those that began before the process asked for tiles too.
#[test]
fn every_thread_may_use_tiles() {
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let early = std::thread::spawn(move || {
        let waited = asked.recv().is_err();
        permitted().then(check_all::<Processor>);
        waited
    });
    let here = permitted();
    drop(ask);
    let late = std::thread::spawn(|| permitted().then(check_all::<Processor>));
    here.then(check_all::<Processor>);
    assert!(early.join().expect("the early thread ends"));
    late.join().expect("the late thread ends");
}
