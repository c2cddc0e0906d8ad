//! Buffers of a device that wait to be used again: a call must not pay for allocating what the call before it had.

use std::{collections::HashMap, sync::Arc};

use wgpu::{BufferUsages, DeviceType};

use super::open::Gpu;

/// Buffers that are free, by usage and size class.
pub(super) struct Pool {
    free: HashMap<(BufferUsages, u64), Vec<wgpu::Buffer>>,
    /// Bytes of all that are free, and how many are kept.
    held: u64,
    most: u64,
    /// Grows when something went wrong: buffers lent before are not taken back.
    age: u64,
}

impl Pool {
    pub(super) fn new(kind: DeviceType) -> Self {
        let most = if kind == DeviceType::DiscreteGpu { 16 << 30 } else { 1 << 30 };
        Self { free: HashMap::new(), held: 0, most, age: 0 }
    }

    /// Forgets all buffers, those that are lent too: some may be invalid, or memory is short.
    pub(super) fn clear(&mut self) {
        self.free.clear();
        self.held = 0;
        self.age += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }
}

/// A buffer that goes back to its pool when it is dropped.
pub(super) struct Lent {
    buffer: wgpu::Buffer,
    gpu: Arc<Gpu>,
    /// The pool's age when it was lent.
    age: u64,
}

impl std::ops::Deref for Lent {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.buffer
    }
}

impl Lent {
    /// A buffer of at least this many bytes. Whether there is memory for it is known when the device's errors are asked
    /// for (`Gpu::guarded`).
    pub(super) fn new(gpu: &Arc<Gpu>, bytes: u64, usage: BufferUsages) -> Self {
        let size = class(bytes).min(gpu.device.limits().max_buffer_size.max(bytes)) / 4 * 4;
        let (free, age) = {
            let mut pool = gpu.pool();
            let free = pool.free.get_mut(&(usage, size)).and_then(Vec::pop);
            pool.held -= free.as_ref().map_or(0, |_| size);
            (free, pool.age)
        };
        let wish = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let buffer = free.unwrap_or_else(|| gpu.device.create_buffer(&wish));
        Self { buffer, gpu: Arc::clone(gpu), age }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let size = self.buffer.size();
        let mut pool = self.gpu.pool();
        if self.age == pool.age && pool.held + size <= pool.most {
            pool.held += size;
            pool.free.entry((self.buffer.usage(), size)).or_default().push(self.buffer.clone());
        }
    }
}

/// Bytes rounded up by at most a quarter, so that few sizes serve all.
fn class(bytes: u64) -> u64 {
    let step = (bytes.max(2048).next_power_of_two() / 8).max(256);
    bytes.max(16).div_ceil(step) * step
}

#[cfg(test)]
mod tests {
    use super::class;

    #[test]
    fn sizes_are_rounded_up_a_little() {
        assert_eq!([class(0), class(256), class(257)], [256, 256, 512]);
        for bytes in [1000, 5000, 1 << 20, (1 << 20) + 1, 134_217_728, 999_999_999] {
            let size = class(bytes);
            assert!(
                size >= bytes && size <= bytes + bytes / 4 + 256 && size.is_multiple_of(4),
                "{bytes} became {size}"
            );
        }
    }
}
