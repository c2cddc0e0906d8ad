//! The tile instructions in plain Rust, after their definition (Intel's manual, volume 2), for tests everywhere.

use super::{Block, Instructions};

/// Instructions that are played.
pub(in super::super) struct Model;

/// 16 rows of 64 bytes.
type Tile = [[u32; 16]; 16];

/// TILELOADD: row i is the 64 bytes at `from + i stride`.
unsafe fn loaded<E>(from: *const E, stride: isize) -> Tile {
    // SAFETY: the caller vouches for 16 rows.
    std::array::from_fn(|i| unsafe {
        from.wrapping_byte_offset(i as isize * stride).cast::<[u32; 16]>().read_unaligned()
    })
}

/// TILESTORED: the other way.
unsafe fn store(to: *mut f32, stride: isize, tile: &Tile) {
    for (i, row) in (0..).zip(tile) {
        // SAFETY: the caller vouches for 16 rows.
        unsafe { to.wrapping_byte_offset(i * stride).cast::<[u32; 16]>().write_unaligned(*row) };
    }
}

/// TDPBF16PS: sums of the first halves of pairs and of the second ones, their sum added to c. Subnormal numbers are 0.
fn dot(c: &mut Tile, a: &Tile, b: &Tile) {
    let flushed = |x: f32| if x.is_subnormal() { 0.0f32.copysign(x) } else { x };
    let half =
        |pair: u32, second: usize| flushed(f32::from_bits(if second == 1 { pair & 0xffff_0000 } else { pair << 16 }));
    for (c, a) in c.iter_mut().zip(a) {
        for (n, c) in c.iter_mut().enumerate() {
            let [first, second] = [0, 1].map(|h| {
                let terms = a.iter().zip(b).map(|(a, b)| (half(*a, h), half(b[n], h)));
                terms.fold(0.0f32, |sum, (x, y)| flushed(x.mul_add(y, sum)))
            });
            *c = flushed(flushed(f32::from_bits(*c)) + flushed(first + second)).to_bits();
        }
    }
}

impl Instructions for Model {
    const NAME: &'static str = "amx_bf16 in plain Rust";
    type Session = ();

    fn session() {}

    unsafe fn multiply(block: Block) {
        let Block { mut a, across, mut b, down, steps, c, below, add } = block;
        let places = [[0, 0], [0, 64], [16, 0], [16, 64]].map(|[i, j]| c.wrapping_byte_offset(i * below + j));
        // SAFETY: the caller vouches for the operands and the sums.
        let mut sums = places.map(|c| if add { unsafe { loaded(c, below) } } else { Tile::default() });
        for _ in 0..steps {
            // SAFETY: as above.
            unsafe {
                let rows = [0, 16].map(|i| loaded(a.wrapping_byte_offset(i * across), across));
                let columns = [0, 64].map(|j| loaded(b.wrapping_byte_offset(j), down));
                for (place, sums) in sums.iter_mut().enumerate() {
                    dot(sums, &rows[place / 2], &columns[place % 2]);
                }
            }
            a = a.wrapping_byte_offset(64);
            b = b.wrapping_byte_offset(16 * down);
        }
        for (c, sums) in places.into_iter().zip(&sums) {
            // SAFETY: as above.
            unsafe { store(c, below, sums) };
        }
    }
}
