//! A variant as an object, and a generated C program that is compiled with `cc`, linked with it and called.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use chunkwise_compiler::bind::{Sizes, bind_dims, carries_state, state_shape};
use chunkwise_dsl::{compile, shape::AxisId, source::Source, typed::Variant};
use chunkwise_runtime::{
    Data, Tensor, Tensors,
    draw::{Gates, inputs},
    tensor,
};

/// A folder of its own for each test; removed when done.
pub struct Place(PathBuf);

impl Place {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("chunkwise-object-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(program).args(arguments).current_dir(&self.0).output().unwrap()
    }

    pub fn succeeds(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {}\n{said}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn chunkwise(&self, arguments: &[&str]) -> Output {
        self.run(env!("CARGO_BIN_EXE_chunkwise"), arguments)
    }

    /// Writes `k.o` and `k.h`, or files of another stem.
    pub fn emit(&self, file: &str, stem: &str, more: &[&str]) {
        let (object, header) = (format!("{stem}.o"), format!("{stem}.h"));
        let mut arguments = vec!["emit", file, "--backend", "llvm", "--stage", "object", "-o", &object];
        arguments.extend(["--header", &header]);
        arguments.extend(more);
        self.succeeds(env!("CARGO_BIN_EXE_chunkwise"), &arguments);
    }

    pub fn cc(&self, arguments: &[&str]) {
        let strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O1"];
        self.succeeds("cc", &[&strict, arguments].concat());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

pub fn example(name: &str) -> String {
    root().join("examples").join(format!("{name}.attn")).display().to_string()
}

/// A parameter of a header's function: its type and name.
fn parameters(header: &str, function: &str) -> Vec<(String, String)> {
    let (_, rest) = header.split_once(&format!("int32_t {function}(\n")).unwrap();
    let (list, _) = rest.split_once(");").unwrap();
    let plain = list.replace("CHUNKWISE_RESTRICT ", "");
    let one = |text: &str| {
        let at = text.rfind([' ', '*']).unwrap() + 1;
        (text[..at].trim().to_string(), text[at..].to_string())
    };
    plain.split(',').map(|text| one(text.trim())).collect()
}

/// The function that runs the variant.
fn function(header: &str) -> String {
    let line = header.lines().find_map(|line| line.strip_prefix("int32_t ")?.strip_suffix('('));
    line.unwrap().to_string()
}

/// What a parameter is called in the program.
fn in_program(header: &str, parameter: &str) -> String {
    let line = header.lines().find(|line| line.starts_with(&format!(" *   {parameter} "))).unwrap();
    let named = line.split(';').next().unwrap().split('`').nth(1);
    named.unwrap_or(parameter.trim_end_matches("_in").trim_end_matches("_out")).to_string()
}

/// A program that is given the sizes and the bytes of every tensor (-1 for none), reads tensors from `NAME.in`, calls
/// the function twice with one workspace and writes what came out to `NAME.out`.
fn caller(header: &str, function: &str) -> String {
    let all = parameters(header, function);
    let sizes: Vec<&str> = all.iter().filter(|(ty, _)| ty == "int64_t").map(|(_, name)| name.as_str()).collect();
    let pointers: Vec<&(String, String)> =
        all.iter().filter(|(ty, name)| ty.contains('*') && name != "workspace").collect();
    let mut text = String::from(MEMORY);
    text += "int main(int argc, char **argv) {\n    int at = 1;\n";
    for size in &sizes {
        writeln!(text, "    int64_t {size} = atoll(argv[at++]);").unwrap();
    }
    for (ty, name) in &pointers {
        let make = if ty.starts_with("const") { "load" } else { "room" };
        let plain = ty.trim_start_matches("const ");
        writeln!(text, "    long bytes_{name} = atol(argv[at++]);").unwrap();
        writeln!(text, "    {plain}{name} = {make}(\"{name}.in\", bytes_{name});").unwrap();
    }
    writeln!(text, "    size_t bytes = {function}_workspace({});", sizes.join(", ")).unwrap();
    text += "    char *workspace = room(\"\", (long)bytes + 4);\n    int32_t code = 0;\n    (void)argc;\n";
    let passed: Vec<&str> = pointers.iter().map(|(_, name)| name.as_str()).chain(sizes.iter().copied()).collect();
    let passed = passed.join(", ");
    // The second call meets a used workspace at another address.
    for shift in [0, 4] {
        for (_, name) in pointers.iter().filter(|(ty, _)| !ty.starts_with("const")) {
            writeln!(text, "    memset({name}, 255, (size_t)bytes_{name});").unwrap();
        }
        writeln!(text, "    code = {function}({passed}, workspace + {shift}, bytes);").unwrap();
        text += "    if (code != 0) return (int)-code;\n";
        for (_, name) in pointers.iter().filter(|(ty, _)| !ty.starts_with("const")) {
            let action = if shift == 0 { "save" } else { "same" };
            writeln!(text, "    {action}(\"{name}.out\", {name}, bytes_{name});").unwrap();
        }
    }
    text + "    return 0;\n}\n"
}

const MEMORY: &str = r#"#include "k.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *room(const char *name, long bytes) {
    void *memory = bytes < 0 ? NULL : malloc((size_t)bytes + 1);
    (void)name;
    if (memory) memset(memory, 255, (size_t)bytes + 1);
    return memory;
}

static void *load(const char *name, long bytes) {
    void *memory = room(name, bytes);
    FILE *file = memory ? fopen(name, "rb") : NULL;
    if (memory && (!file || fread(memory, 1, (size_t)bytes, file) != (size_t)bytes)) exit(99);
    if (file) fclose(file);
    return memory;
}

static void save(const char *name, const void *memory, long bytes) {
    FILE *file = fopen(name, "wb");
    if (!file || fwrite(memory, 1, (size_t)bytes, file) != (size_t)bytes || fclose(file)) exit(98);
}

static void same(const char *name, const void *memory, long bytes) {
    void *before = load(name, bytes);
    if (memcmp(before, memory, (size_t)bytes)) exit(97);
}

"#;

fn bytes(tensor: &Tensor) -> Vec<u8> {
    match &tensor.data {
        Data::F32(data) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I32(data) => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// A variant, its object and a program that calls it.
pub struct Linked<'p> {
    place: &'p Place,
    file: String,
    variant: Variant,
    header: String,
    form: Vec<String>,
    /// Of every axis that is not derived.
    own: Vec<(String, usize)>,
}

impl<'p> Linked<'p> {
    pub fn new(place: &'p Place, file: &str, form: &[&str]) -> Self {
        let program = compile(&Source::new(file, fs::read_to_string(file).unwrap()), &[]).unwrap();
        let variant = program.variants[0].clone();
        let free = variant.axes.iter().filter(|axis| axis.value.is_none());
        let size = |(place, name): (usize, &String)| match name.as_str() {
            "R" | "G" => 2,
            _ => 7 + 6 * (place % 4),
        };
        let own: Vec<(String, usize)> =
            free.enumerate().map(|(place, axis)| (axis.name.clone(), size((place, &axis.name)))).collect();
        let dims: Vec<String> = own.iter().map(|(name, n)| format!("--dim={name}={n}")).collect();
        let more: Vec<&str> = form.iter().copied().chain(dims.iter().map(String::as_str)).collect();
        place.emit(file, "k", &more);
        let header = fs::read_to_string(place.path("k.h")).unwrap();
        fs::write(place.path("main.c"), caller(&header, &function(&header))).unwrap();
        place.cc(&["main.c", "k.o", "-o", "main"]);
        let form = form.iter().map(|x| x.to_string()).collect();
        Self { place, file: file.to_owned(), variant, header, form, own }
    }

    /// The C program gives the bytes that `run` gives.
    pub fn agrees(&self, dims: &[(&str, usize)], states: States) {
        let given = |name: &String| dims.iter().find(|(known, _)| known == name).map(|(_, n)| *n);
        let all: Vec<(String, usize)> =
            self.own.iter().map(|(name, n)| (name.clone(), given(name).unwrap_or(*n))).collect();
        let sizes = bind_dims(&self.variant, &all).unwrap();
        let mut tensors = inputs(&self.variant, &sizes, Gates::Plain, 5);
        if states == States::Given && carries_state(&self.variant) {
            for (place, state) in self.variant.states.iter().enumerate() {
                let shape = state_shape(&self.variant, state, &sizes);
                let data = (0..shape.iter().product()).map(|n: usize| ((n * 7 + place) % 13) as f32 * 0.1 - 0.6);
                tensors.insert(state.name.clone(), Tensor::f32(shape.clone(), data.collect()));
            }
        }
        let wanted = self.run(&tensors);
        let got = self.call(&sizes, &tensors, &wanted);
        for (name, tensor) in &wanted {
            let own =
                if self.variant.states.iter().any(|s| s.name == *name) { format!("{name}_out") } else { name.clone() };
            assert!(
                bytes(tensor) == fs::read(self.place.path(&format!("{own}.out"))).unwrap(),
                "{name} at {dims:?} of {}",
                self.file
            );
        }
        assert_eq!(got, wanted.len());
    }

    fn run(&self, tensors: &Tensors) -> Vec<(String, Tensor)> {
        tensor::write(&self.place.path("in.safetensors"), tensors).unwrap();
        let mut arguments = vec!["run", &self.file, "--backend", "llvm", "--inputs", "in.safetensors"];
        arguments.extend(["--output", "out.safetensors"]);
        arguments.extend(self.form.iter().map(String::as_str));
        let dims: Vec<String> = self
            .variant
            .axes
            .iter()
            .filter(|axis| axis.value.is_none())
            .filter_map(|axis| {
                let n = self.own.iter().find(|(name, _)| *name == axis.name)?.1;
                ["R", "G", "B", "H", "T"]
                    .iter()
                    .all(|run_time| *run_time != axis.name)
                    .then(|| format!("--dim={}={n}", axis.name))
            })
            .collect();
        arguments.extend(dims.iter().map(String::as_str));
        self.place.succeeds(env!("CARGO_BIN_EXE_chunkwise"), &arguments);
        let read = tensor::read(&self.place.path("out.safetensors")).unwrap();
        read.into_iter().map(|(name, stored)| (name, stored.tensor.unwrap())).collect()
    }

    /// How many tensors came out.
    fn call(&self, sizes: &Sizes, tensors: &Tensors, wanted: &[(String, Tensor)]) -> usize {
        let (mut arguments, mut outputs) = (Vec::new(), 0);
        let all = parameters(&self.header, &function(&self.header));
        for (_, name) in all.iter().filter(|(ty, _)| ty == "int64_t") {
            let axis = self.variant.axes.iter().position(|axis| axis.name == *name).unwrap();
            arguments.push(sizes.get(AxisId(axis as u32)).unwrap().to_string());
        }
        for (ty, name) in all.iter().filter(|(ty, name)| ty.contains('*') && name != "workspace") {
            let known = in_program(&self.header, name);
            let found = match ty.starts_with("const") {
                true => tensors.get(&known),
                false => wanted.iter().find(|(name, _)| *name == known).map(|(_, tensor)| tensor),
            };
            outputs += usize::from(!ty.starts_with("const"));
            if let Some(tensor) = found.filter(|_| ty.starts_with("const")) {
                fs::write(self.place.path(&format!("{name}.in")), bytes(tensor)).unwrap();
            }
            arguments.push(found.map_or("-1".to_string(), |tensor| bytes(tensor).len().to_string()));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.place.succeeds("./main", &arguments);
        outputs
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum States {
    Declared,
    Given,
}
