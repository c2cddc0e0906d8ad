//! This machine's rates, by back end, and the file in the user's cache folder that keeps them. Measuring them is
//! `calibrate`'s; what they mean is `kernel::Rates`'.
//!
//! ```text
//! # What kernels cost on AMD EPYC, in ns. `chunkwise calibrate` writes this file anew.
//! version = 2
//! [llvm]
//! statement = 5.2
//! ```

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use chunkwise_compiler::kernel::Rates;

use crate::{backend::Backend, whole};

/// Of what this file means: files of other versions are not read.
const VERSION: &str = "version = 2";

/// Rates by back end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table(BTreeMap<Backend, Rates>);

impl Table {
    /// A back end's rates; those built in where none were measured.
    pub fn of(&self, backend: Backend) -> Rates {
        self.0.get(&backend).cloned().unwrap_or_else(|| built_in(backend))
    }

    pub fn set(&mut self, backend: Backend, rates: Rates) {
        self.0.insert(backend, rates);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rates of a file; none if there is no such file.
    ///
    /// # Errors
    /// In words: the file cannot be read, or holds something else. The built-in rates serve then.
    pub fn load(path: &Path) -> Result<Self, String> {
        let damaged = |why: String| format!("{}: {why}; run chunkwise calibrate", path.display());
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(damaged),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(damaged(error.to_string())),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).enumerate().filter(|(_, x)| !x.is_empty() && !x.starts_with('#'));
        if lines.next().is_none_or(|(_, line)| line != VERSION) {
            return Err("is no file of rates of this version".into());
        }
        let mut table = Self::default();
        let mut current = None;
        for (n, line) in lines {
            let wrong = || format!("line {} is no rate: `{line}`", n + 1);
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                let backend = Backend::ALL.into_iter().find(|backend| backend.name() == name).ok_or_else(wrong)?;
                current = Some(table.0.entry(backend).or_insert_with(|| built_in(backend)));
                continue;
            }
            let (name, value) = line.split_once('=').ok_or_else(wrong)?;
            let value = value.trim().parse().map_err(|_| wrong())?;
            let fits = current.as_mut().is_some_and(|rates| rates.set(name.trim(), value));
            fits.then_some(()).ok_or_else(wrong)?;
        }
        Ok(table)
    }

    /// Writes the file, and the folders above it. Nobody ever sees half of it.
    ///
    /// # Errors
    /// Of the file system.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        whole::write(path, self.text().as_bytes())
    }

    fn text(&self) -> String {
        let mut text =
            format!("# What kernels cost on {}, in ns. `chunkwise calibrate` writes this file anew.\n", processor());
        text += &format!("{VERSION}\n");
        for (backend, rates) in &self.0 {
            text += &format!("\n[{}]\n", backend.name());
            for name in Rates::NAMES {
                text += &format!("{name} = {}\n", rates.get(name).unwrap_or(0.0));
            }
        }
        text
    }
}

/// The rates of a back end's code where nothing was measured.
pub(crate) fn built_in(backend: Backend) -> Rates {
    let llvm = Rates::default();
    match backend {
        // Its maps have narrow vectors where a micro-kernel does not serve them.
        Backend::Cranelift => Rates { element: 0.05, operation: 0.06, swept: 0.02, swept_operation: 0.0105, ..llvm },
        _ => llvm,
    }
}

/// Where this processor's rates are kept; None where the user has no cache folder.
pub fn path() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("chunkwise").join(format!("{}.toml", slug(&processor()))))
}

fn slug(name: &str) -> String {
    let simple = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let words: String = simple.collect();
    words.split('-').filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
}

/// The processor by its name, as far as the system tells it.
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    named.map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_back_what_was_written() {
        let mut table = Table::default();
        table.set(Backend::Llvm, Rates { statement: 1.25, ..Rates::default() });
        let folder = std::env::temp_dir().join(format!("chunkwise-rates-{}", std::process::id()));
        let path = folder.join("deep").join("cpu.toml");
        assert!(Table::load(&path).unwrap().is_empty());
        table.store(&path).unwrap();
        assert_eq!(Table::load(&path).unwrap(), table);
        fs::write(&path, "statement = 1").unwrap();
        assert!(Table::load(&path).unwrap_err().contains("chunkwise calibrate"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn damage_is_named_by_its_line() {
        for (text, line) in [("[llvm]\nspeed = 1", 3), ("[gpu]", 2), ("statement = 1", 2), ("[llvm]\nrow = -1", 3)] {
            let why = Table::parse(&format!("{VERSION}\n{text}")).unwrap_err();
            assert!(why.starts_with(&format!("line {line} ")), "{why}");
        }
        assert!(Table::parse("").is_err());
    }

    #[test]
    fn processors_have_files_of_their_own() {
        assert_eq!(slug("AMD EPYC 9R14 (Zen 4) @ 3.7GHz"), "amd-epyc-9r14-zen-4-3-7ghz");
    }
}
