//! One run on a device: its buffers are filled, its launches go out in one submission, its results come back. Split so
//! that `bench` can time many submissions on tensors that are there already.

use std::{
    ops::Range,
    sync::{Arc, mpsc::RecvTimeoutError},
    time::{Duration, Instant},
};

use chunkwise_compiler::codegen::wgsl::{Code, Contents, Stored};
use chunkwise_compiler::kernel::{BufferRole, Module};
use half::f16;
use wgpu::BufferUsages;

use super::{
    buffers::Lent,
    open::Gpu,
    pipeline::Ready,
    place::{Layout, Step},
};
use crate::launch::{Fit, Input, Launch, RunError};

/// Bytes that one write to the device copies, and how many of them may wait.
const WRITE: usize = 32 << 20;
const WAITING: usize = 8;

/// What a run needs, in the device's memory.
pub(super) struct Session<'a> {
    module: &'a Module,
    code: &'a Code,
    ready: &'a Ready,
    gpu: Arc<Gpu>,
    layout: Layout,
    /// One a binding.
    buffers: Vec<Lent>,
    group: wgpu::BindGroup,
    /// Bytes from one launch's params to the next one's.
    slot: u64,
}

impl<'a> Session<'a> {
    /// Takes buffers for a run of these sizes and writes the params.
    ///
    /// # Errors
    /// What the device cannot hold, or a size beyond an i32. Memory that is exhausted shows in `Gpu::guarded`.
    pub(super) fn new(
        (module, code): (&'a Module, &'a Code),
        (gpu, ready): (&Arc<Gpu>, &'a Ready),
        fit: &Fit,
    ) -> Result<Self, RunError> {
        let layout = Layout::new((module, code), fit, (&gpu.limits, &gpu.pace))?;
        let words = layout.steps.iter().map(|step| layout.words(code, fit, step)).collect::<Result<Vec<_>, _>>()?;
        let length = (code.words.len().next_multiple_of(4).max(4) * 4) as u64;
        let slot = length.next_multiple_of(gpu.alignment);
        let usage = BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let buffers: Vec<Lent> = code
            .bindings
            .iter()
            .zip(&layout.bytes)
            .map(|(binding, &bytes)| match binding.contents {
                Contents::Params => Lent::new(gpu, slot * words.len().max(1) as u64, usage | BufferUsages::UNIFORM),
                _ => Lent::new(gpu, bytes, usage | BufferUsages::STORAGE),
            })
            .collect();
        let entries: Vec<_> = code
            .bindings
            .iter()
            .zip(buffers.iter().zip(&layout.bytes))
            .enumerate()
            .map(|(place, (binding, (buffer, &bytes)))| {
                let size = if binding.contents == Contents::Params { length } else { bytes };
                let bound = wgpu::BufferBinding { buffer, offset: 0, size: std::num::NonZero::new(size) };
                wgpu::BindGroupEntry { binding: place as u32, resource: wgpu::BindingResource::Buffer(bound) }
            })
            .collect();
        let wish = wgpu::BindGroupDescriptor { label: None, layout: &ready.layout, entries: &entries };
        let group = gpu.device.create_bind_group(&wish);
        let session = Self { module, code, ready, gpu: Arc::clone(gpu), layout, buffers, group, slot };
        session.write_params(&words);
        Ok(session)
    }

    fn write_params(&self, words: &[Vec<i32>]) {
        let params = self.code.bindings.iter().position(|binding| binding.contents == Contents::Params);
        let Some(params) = params else { return };
        // One write: there may be thousands of launches.
        let mut bytes = vec![0u8; words.len() * self.slot as usize];
        for (slot, words) in bytes.chunks_exact_mut(self.slot as usize).zip(words) {
            let words: &[u8] = bytemuck::cast_slice(words);
            slot[..words.len()].copy_from_slice(words);
        }
        self.gpu.queue.write_buffer(&self.buffers[params], 0, &bytes);
    }

    /// Writes the inputs and the initial states.
    ///
    /// # Errors
    /// The device is lost.
    pub(super) fn upload(&self, launch: &Launch<'_>) -> Result<(), RunError> {
        for (place, buffer) in self.module.buffers.iter().enumerate() {
            let name = buffer.name.as_str();
            let data = match buffer.role {
                BufferRole::Input => launch.inputs.get(name).copied(),
                BufferRole::StateIn => launch.states_in.get(name).map(|&data| Input::F32(data)),
                _ => None,
            };
            if let Some(data) = data {
                self.write(place, data)?;
            }
        }
        Ok(())
    }

    /// Writes a tensor to its buffer, in pieces: each is copied to memory of the driver's first.
    fn write(&self, buffer: usize, data: Input<'_>) -> Result<(), RunError> {
        let Some((target, at, elem)) = self.target(buffer) else { return Ok(()) };
        let mut waiting = 0;
        let mut piece = |place: usize, bytes: &[u8]| {
            self.gpu.queue.write_buffer(target, at + (place * WRITE) as u64, bytes);
            waiting += 1;
            if usize::is_multiple_of(waiting, WAITING) {
                self.gpu.queue.submit([]);
                return self.wait();
            }
            Ok(())
        };
        match (data, elem) {
            (Input::F32(data), Stored::F16) => {
                for (place, part) in data.chunks(WRITE / 2).enumerate() {
                    let mut halves: Vec<f16> = part.iter().map(|&x| f16::from_f32(x)).collect();
                    // Writes come in words of 4 bytes.
                    halves.resize(halves.len().next_multiple_of(2), f16::ZERO);
                    piece(place, bytemuck::cast_slice(&halves))?;
                }
            }
            (Input::F32(data), _) => {
                for (place, part) in data.chunks(WRITE / 4).enumerate() {
                    piece(place, bytemuck::cast_slice(part))?;
                }
            }
            (Input::I32(data), _) => {
                for (place, part) in data.chunks(WRITE / 4).enumerate() {
                    piece(place, bytemuck::cast_slice(part))?;
                }
            }
        }
        Ok(())
    }

    /// Where a buffer of the module is: its binding's buffer, the byte there, and what its elements are stored as.
    fn target(&self, buffer: usize) -> Option<(&Lent, u64, Stored)> {
        let place = self.layout.places[buffer]?;
        let elem = self.code.bindings[place.binding].elem;
        Some((&self.buffers[place.binding], place.first * elem.bytes(), elem))
    }

    fn wait(&self) -> Result<(), RunError> {
        self.gpu
            .device
            .poll(wgpu::PollType::wait_indefinitely())
            .map(|_| ())
            .map_err(|error| RunError::Device(error.to_string()))
    }

    /// Runs all kernels `times` times; how long each took, by the device's clock where it has one.
    ///
    /// # Errors
    /// The device is lost.
    pub(super) fn go(&self, times: usize) -> Result<Vec<Duration>, RunError> {
        let Some(tick) = self.gpu.tick else { return self.go_by_the_wall(times) };
        let marks = 2 * times.clamp(1, 1024) as u32;
        let device = &self.gpu.device;
        let set = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: marks,
        });
        let bytes = u64::from(marks) * 8;
        let found = Lent::new(&self.gpu, bytes, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC);
        let read = Lent::new(&self.gpu, bytes, BufferUsages::COPY_DST | BufferUsages::MAP_READ);
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for first in (0..marks).step_by(2) {
            self.passes(&mut encoder, Some((&set, first)));
        }
        encoder.resolve_query_set(&set, 0..marks, &found, 0);
        encoder.copy_buffer_to_buffer(&found, 0, &read, 0, Some(bytes));
        self.gpu.queue.submit([encoder.finish()]);
        let ticks: Vec<u64> = self.mapped((&read, bytes), |bytes| {
            bytes
                .chunks_exact(8)
                .map(|x| u64::from_le_bytes([x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]]))
                .collect()
        })?;
        let span =
            |pair: &[u64]| Duration::from_nanos((pair[1].saturating_sub(pair[0]) as f64 * f64::from(tick)) as u64);
        Ok(ticks.chunks_exact(2).map(span).collect())
    }

    /// The same by this process's clock, from submission until the device is done.
    fn go_by_the_wall(&self, times: usize) -> Result<Vec<Duration>, RunError> {
        self.gpu.queue.submit([]);
        self.wait()?;
        let once = |_| {
            let clock = Instant::now();
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            self.passes(&mut encoder, None);
            self.gpu.queue.submit([encoder.finish()]);
            self.wait().map(|()| clock.elapsed())
        };
        (0..times.max(1)).map(once).collect()
    }

    /// All launches, in order; the driver keeps those apart that share a buffer. A submission is no longer than the device
    /// is to be left to itself; the last one is the caller's. Marks are when the first launch begins and the last one ends.
    fn passes(&self, encoder: &mut wgpu::CommandEncoder, marks: Option<(&wgpu::QuerySet, u32)>) {
        let last = self.layout.submissions.len() - 1;
        for (number, steps) in self.layout.submissions.iter().enumerate() {
            if number > 0 {
                let next = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                let done = std::mem::replace(encoder, next);
                self.gpu.queue.submit([done.finish()]);
            }
            let marks = marks.filter(|_| number == 0 || number == last);
            let timestamps = marks.map(|(query_set, first)| wgpu::ComputePassTimestampWrites {
                query_set,
                beginning_of_pass_write_index: (number == 0).then_some(first),
                end_of_pass_write_index: (number == last).then_some(first + 1),
            });
            self.pass(encoder, steps.clone(), timestamps);
        }
    }

    fn pass(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        steps: Range<usize>,
        timestamps: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) {
        let wish = wgpu::ComputePassDescriptor { label: None, timestamp_writes: timestamps };
        let mut pass = encoder.begin_compute_pass(&wish);
        for place in steps {
            let Step { shader, groups, .. } = &self.layout.steps[place];
            pass.set_pipeline(&self.ready.pipelines[*shader]);
            pass.set_bind_group(0, &self.group, &[(place as u64 * self.slot) as u32]);
            pass.dispatch_workgroups(groups[0], groups[1], 1);
        }
    }

    /// Reads the outputs and the final states back.
    ///
    /// # Errors
    /// The device is lost.
    pub(super) fn download(&self, launch: &mut Launch<'_>) -> Result<(), RunError> {
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut waiting = Vec::new();
        for (place, buffer) in self.module.buffers.iter().enumerate() {
            let name = buffer.name.as_str();
            let to = match buffer.role {
                BufferRole::Output => launch.outputs.get(name).map(|to| to.len()),
                BufferRole::StateOut => launch.states_out.get(name).map(|to| to.len()),
                _ => None,
            };
            if let (Some(elements), Some((from, at, elem))) = (to.filter(|n| *n > 0), self.target(place)) {
                let bytes = (elements as u64 * elem.bytes()).next_multiple_of(4);
                let read = Lent::new(&self.gpu, bytes, BufferUsages::COPY_DST | BufferUsages::MAP_READ);
                encoder.copy_buffer_to_buffer(from, at, &read, 0, Some(bytes));
                waiting.push((place, read, bytes, elem));
            }
        }
        self.gpu.queue.submit([encoder.finish()]);
        for (place, read, bytes, elem) in &waiting {
            let buffer = &self.module.buffers[*place];
            let to = match buffer.role {
                BufferRole::Output => launch.outputs.get_mut(buffer.name.as_str()),
                _ => launch.states_out.get_mut(buffer.name.as_str()),
            };
            if let Some(to) = to {
                self.mapped((read, *bytes), |from| fill(to, from, *elem))?;
            }
        }
        Ok(())
    }

    /// What `take` makes of the bytes of a buffer that the host reads.
    fn mapped<T>(&self, (buffer, bytes): (&Lent, u64), take: impl FnOnce(&[u8]) -> T) -> Result<T, RunError> {
        let failed = |error: &dyn std::fmt::Display| {
            // It may be mapped still: nobody may be lent it again.
            self.gpu.pool().clear();
            RunError::Device(error.to_string())
        };
        let (tell, told) = std::sync::mpsc::channel();
        buffer.slice(0..bytes).map_async(wgpu::MapMode::Read, move |done| {
            // Nobody waits any more where the device was lost meanwhile.
            let _ = tell.send(done);
        });
        self.wait().inspect_err(|error| drop(failed(error)))?;
        // Another thread that waits may have found that it is mapped, and not have told yet.
        let done = loop {
            match told.recv_timeout(Duration::from_millis(100)) {
                Err(RecvTimeoutError::Timeout) if self.gpu.lost().is_none() => {}
                Err(_) => return Err(failed(&"a buffer was not mapped")),
                Ok(done) => break done,
            }
            self.wait().inspect_err(|error| drop(failed(error)))?;
        };
        done.map_err(|error| failed(&error))?;
        let view = buffer.get_mapped_range(0..bytes).map_err(|error| failed(&error))?;
        let taken = take(&view);
        drop(view);
        buffer.unmap();
        Ok(taken)
    }
}

fn fill(to: &mut [f32], from: &[u8], elem: Stored) {
    match elem {
        Stored::F16 => {
            let halves = from.chunks_exact(2).map(|x| f16::from_le_bytes([x[0], x[1]]).to_f32());
            to.iter_mut().zip(halves).for_each(|(to, x)| *to = x);
        }
        Stored::F32 | Stored::I32 => {
            let words = from.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]]));
            to.iter_mut().zip(words).for_each(|(to, x)| *to = x);
        }
    }
}
