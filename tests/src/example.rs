//! The examples: every `.attn` file of `examples/`, checked.

use std::{fs, path::Path, path::PathBuf, sync::Arc};

use chunkwise_dsl::{compile, diagnostic::Diagnostic, source::Source, typed::Variant};

/// The files, by name.
pub fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "attn"));
    paths.sort();
    paths
}

/// The variants of all files.
///
/// # Errors
/// A file that cannot be read or has errors: its name and their messages.
pub fn all() -> Result<Vec<Arc<Variant>>, String> {
    let mut variants = Vec::new();
    for path in files() {
        let told = |what: String| format!("{}: {what}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| told(error.to_string()))?;
        let source = Source::new(path.to_string_lossy(), text);
        let messages = |found: Vec<Diagnostic>| found.into_iter().map(|d| d.message).collect::<Vec<_>>().join("; ");
        let program = compile(&source, &[]).map_err(|found| told(messages(found)))?;
        variants.extend(program.variants.into_iter().map(Arc::new));
    }
    Ok(variants)
}
