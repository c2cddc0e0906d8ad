//! From a file's name to a checked program, and from a program to the variant meant. No error is printed here.

use std::{io::Read, path::Path, sync::OnceLock};

use chunkwise_dsl::{
    compile,
    source::Source,
    suggest::nearest,
    typed::{Program, Variant},
};

use crate::{
    arguments::{OneVariant, Shared},
    examples,
    failure::Failure,
    print,
};

/// The text that a FILE of the command line means: a file's, standard input's for `-`, a built-in example's for `@NAME`.
pub fn source(path: &Path) -> Result<Source, Failure> {
    if let Some(name) = path.to_str().and_then(|name| name.strip_prefix('@')) {
        let example = examples::named(name)?;
        return Ok(Source::new(format!("@{}", example.name), example.text.to_string()));
    }
    let piped = path == Path::new("-");
    let name = if piped { "<stdin>".to_string() } else { path.display().to_string() };
    let unread = |error: &std::io::Error| Failure::wrong(format!("cannot read {name}: {error}"));
    let bytes = match piped {
        true => standard_input().as_ref().map_err(unread)?.clone(),
        false => std::fs::read(path).map_err(|error| unread(&error))?,
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        Failure::wrong(format!("{name} is not UTF-8 text: byte {} is no character", error.utf8_error().valid_up_to()))
    })?;
    Ok(Source::new(name, text))
}

/// All of standard input. It can be read only once, and commands look at a program several times.
fn standard_input() -> &'static std::io::Result<Vec<u8>> {
    static BYTES: OnceLock<std::io::Result<Vec<u8>>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    })
}

/// Reads and checks a program, and that it has the axes that `--dim` names. Its warnings go to stderr.
pub fn load(path: &Path, shared: &Shared) -> Result<Program, Failure> {
    let source = source(path)?;
    let program = compile(&source, &shared.args).map_err(|found| Failure::Diagnosed(found, source.clone()))?;
    print::diagnostics(&program.warnings, &program.source);
    known_axes(&program, shared)?;
    Ok(program)
}

/// What is done with the one variant of a program, or the one that `--variant` names. Refusals get their place.
pub fn with_one<T>(
    which: &OneVariant,
    shared: &Shared,
    work: impl FnOnce(&Variant) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let program = load(&which.file, shared)?;
    let variant = one_of(&program, which)?;
    only_axes_of(variant, shared)?;
    work(variant).map_err(|failure| failure.placed(variant, &program.source))
}

fn one_of<'p>(program: &'p Program, which: &OneVariant) -> Result<&'p Variant, Failure> {
    let names: Vec<&str> = program.variants.iter().map(|variant| variant.name.as_str()).collect();
    let listed = names.join(", ");
    let file = which.file.display();
    let place = match &which.variant {
        Some(name) => names.iter().position(|known| known == name).ok_or_else(|| {
            let meant = nearest(name, names.iter().copied()).map(|meant| format!("; did you mean `{meant}`?"));
            Failure::wrong(format!("{file} has no variant `{name}`, only {listed}{}", meant.unwrap_or_default()))
        })?,
        None if names.len() == 1 => 0,
        None if names.is_empty() => return Err(Failure::wrong(format!("{file} holds no variant"))),
        None => {
            return Err(Failure::wrong(format!("{file} holds several variants: say --variant and one of {listed}")));
        }
    };
    Ok(&program.variants[place])
}

/// Every `--dim` must name an axis of some variant of the file.
fn known_axes(program: &Program, shared: &Shared) -> Result<(), Failure> {
    let known: Vec<&str> =
        program.variants.iter().flat_map(|variant| &variant.axes).map(|axis| axis.name.as_str()).collect();
    unknown_axes(&known, shared)
}

fn only_axes_of(variant: &Variant, shared: &Shared) -> Result<(), Failure> {
    let known: Vec<&str> = variant.axes.iter().map(|axis| axis.name.as_str()).collect();
    unknown_axes(&known, shared)
}

fn unknown_axes(known: &[&str], shared: &Shared) -> Result<(), Failure> {
    let mut list = known.to_vec();
    list.sort();
    list.dedup();
    let unknown = shared.dims.iter().filter(|(name, _)| !known.contains(&name.as_str()));
    let messages: Vec<String> = unknown
        .map(|(name, size)| {
            let meant = nearest(name, list.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
            let (list, meant) = (list.join(", "), meant.unwrap_or_default());
            format!("--dim {name}={size}: there is no axis `{name}`, only {list}{meant}")
        })
        .collect();
    if messages.is_empty() { Ok(()) } else { Err(Failure::Wrong(messages)) }
}

/// The `--dim`s that name axes of a variant.
pub fn dims_of(variant: &Variant, shared: &Shared) -> Vec<(String, usize)> {
    shared.dims.iter().filter(|(name, _)| variant.axes.iter().any(|axis| axis.name == *name)).cloned().collect()
}
