//! A case: a `.attn` file whose leading comment says why it is there, which stages are compared with their snapshots, and
//! with which arguments and sizes it is compiled.
//!
//! ```text
//! # Why this case is here, in a sentence.
//! # stages: typed, form
//! # args: W = 64
//! # dims: K = 3, V = 5
//! # form: chunked
//! # schedule: split
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// One file of `cases/<topic>/`.
#[derive(Debug, Clone)]
pub struct Case {
    pub topic: String,
    pub name: String,
    pub path: PathBuf,
    pub text: String,
    pub stages: Vec<String>,
    pub args: Vec<(String, f64)>,
    pub dims: Vec<(String, usize)>,
    /// The form of the stages that have one; the recurrent one if none is named.
    pub form: String,
    /// Of the chunked form; fused if none is named.
    pub schedule: String,
}

impl Case {
    /// Where the case's snapshots stand.
    pub fn folder(&self) -> PathBuf {
        self.path.with_extension("")
    }
}

/// All cases, by topic and name.
///
/// # Errors
/// A file that cannot be read, or whose header is not as above: no sentence, no stages, a setting that is no `NAME = N`.
pub fn cases() -> io::Result<Vec<Case>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut found = Vec::new();
    for topic in listing(&root)? {
        for path in listing(&topic)? {
            if path.extension().is_some_and(|e| e == "attn") {
                found.push(read(&topic, &path)?);
            }
        }
    }
    Ok(found)
}

fn read(topic: &Path, path: &Path) -> io::Result<Case> {
    let text = fs::read_to_string(path)?;
    let header: Vec<&str> = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim).collect();
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
    if !header.first().is_some_and(|why| why.ends_with('.') || header.get(1).is_some_and(|next| !next.contains(':'))) {
        return Err(wrong("the first comment line says no sentence of why the case is there"));
    }
    let entries = |key: &str| -> Vec<&str> {
        let lines = header.iter().filter_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        lines.flat_map(|line| line.split(',')).map(str::trim).filter(|entry| !entry.is_empty()).collect()
    };
    let stages: Vec<String> = entries("stages").into_iter().map(str::to_string).collect();
    if stages.is_empty() {
        return Err(wrong("the header names no stages"));
    }
    Ok(Case {
        topic: stem(topic),
        name: stem(path),
        path: path.to_path_buf(),
        stages,
        args: settings(&entries("args")).ok_or_else(|| wrong("args are written `NAME = N`"))?,
        dims: settings(&entries("dims")).ok_or_else(|| wrong("dims are written `NAME = N`"))?,
        form: entries("form").first().unwrap_or(&"recurrent").to_string(),
        schedule: entries("schedule").first().unwrap_or(&"fused").to_string(),
        text,
    })
}

/// `NAME = N`, each.
fn settings<T: std::str::FromStr>(entries: &[&str]) -> Option<Vec<(String, T)>> {
    let setting = |entry: &&str| {
        let (name, value) = entry.split_once('=')?;
        Some((name.trim().to_string(), value.trim().parse().ok()?))
    };
    entries.iter().map(setting).collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn listing(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder)? {
        found.push(entry?.path());
    }
    found.sort();
    Ok(found)
}
