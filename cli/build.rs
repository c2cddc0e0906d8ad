//! Lists `examples/*.attn` for the command to hold: a new example is a new file and nothing else.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../examples").canonicalize()?;
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut rows = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if let (Some("attn"), Some(name)) = (path.extension().and_then(|e| e.to_str()), path.file_stem()) {
            rows.push(format!("    ({:?}, include_str!({:?})),\n", name.to_string_lossy(), path.display().to_string()));
        }
    }
    rows.sort();
    let table = format!("&[\n{}]\n", rows.concat());
    fs::write(Path::new(&env::var("OUT_DIR")?).join("examples.rs"), table)?;
    Ok(())
}
