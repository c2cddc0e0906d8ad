//! Files that are written as a whole or not at all. Where the system has files without a name, the bytes go into one, so
//! that whatever ends the process leaves nothing; elsewhere into a file beside the target. Both get the target's name
//! once they are whole. Listening for signals is not here: who does calls `abandon`.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Named files that are not whole yet, or do not have their last name.
static PARTS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what is half written, and lets nothing further be begun: for a process that is about to end.
pub fn abandon() {
    let mut parts = parts();
    for part in parts.drain(..) {
        // Nobody is left to tell.
        let _ = fs::remove_file(part);
    }
    std::mem::forget(parts);
}

/// Writes a file; one that was there before is replaced at once and keeps its permissions. What is no regular file (a
/// pipe, a device) is written directly.
///
/// # Errors
/// Of the file system. There is then no new file, and an old one is as it was.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_all(&[(path, bytes)]).map_err(|(_, error)| error)
}

/// Writes a file that is not there yet.
///
/// # Errors
/// Of the file system, `AlreadyExists` among them. There is then no new file.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Whatever has the name, a link to nowhere too.
    if fs::symlink_metadata(path).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    Filled::new(path, bytes)?.name_first(&mut parts())
}

/// Writes files that belong together: none has its name before all are filled.
///
/// # Errors
/// Of the file system, and the place of the file concerned. There is then no new file.
pub fn write_all(files: &[(&Path, &[u8])]) -> Result<(), (usize, io::Error)> {
    let mut filled = Vec::new();
    for (place, (path, bytes)) in files.iter().enumerate() {
        filled.push(Filled::new(path, bytes).map_err(|error| (place, error))?);
    }
    // An interrupt waits until all have their names.
    let mut parts = parts();
    for (place, (of, (_, bytes))) in filled.iter_mut().zip(files).enumerate() {
        if let Err(error) = of.name(&mut parts, bytes) {
            drop(parts);
            // The error that is reported is the first one.
            filled[..place].iter().filter(|of| !of.direct()).for_each(|of| drop(fs::remove_file(&of.target)));
            return Err((place, error));
        }
    }
    Ok(())
}

/// A file that is whole but for its name. Dropped, it goes.
struct Filled {
    target: PathBuf,
    part: PathBuf,
    holds: Holds,
}

enum Holds {
    /// A file without a name.
    Nameless(File),
    /// A file under the name of the part, which is in the list.
    Part,
    /// The target is no regular file: it is written when its turn comes.
    Direct,
    /// It has its name.
    Nothing,
}

impl Filled {
    fn new(path: &Path, bytes: &[u8]) -> io::Result<Self> {
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        if fs::metadata(&target).is_ok_and(|meta| !meta.is_file()) {
            return Ok(Self { target, part: PathBuf::new(), holds: Holds::Direct });
        }
        let part = beside(&target)?;
        match nameless::create(&target) {
            Ok(file) => {
                fill(&file, &target, bytes)?;
                Ok(Self { target, part, holds: Holds::Nameless(file) })
            }
            Err(_) => Self::named(target, part, bytes),
        }
    }

    /// Fills a file beside the target.
    fn named(target: PathBuf, part: PathBuf, bytes: &[u8]) -> io::Result<Self> {
        let file = {
            let mut parts = parts();
            let file = File::create(&part)?;
            parts.push(part.clone());
            file
        };
        let filled = Self { target, part, holds: Holds::Part };
        fill(&file, &filled.target, bytes)?;
        Ok(filled)
    }

    fn direct(&self) -> bool {
        matches!(self.holds, Holds::Direct)
    }

    /// Gives the file its name. One that has it already can only be replaced by a file with a name.
    fn name(&mut self, parts: &mut Vec<PathBuf>, bytes: &[u8]) -> io::Result<()> {
        match &self.holds {
            Holds::Nothing => return Ok(()),
            Holds::Direct => return File::options().write(true).open(&self.target)?.write_all(bytes),
            Holds::Part => fs::rename(&self.part, &self.target)?,
            Holds::Nameless(file) => match nameless::link(file, &self.target) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    nameless::link(file, &self.part)?;
                    if let Err(error) = fs::rename(&self.part, &self.target) {
                        // The error that is reported is the first one.
                        let _ = fs::remove_file(&self.part);
                        return Err(error);
                    }
                }
                linked => linked?,
            },
        }
        parts.retain(|known| *known != self.part);
        self.holds = Holds::Nothing;
        Ok(())
    }
}

impl Filled {
    /// Gives the file a name that nothing has.
    fn name_first(&mut self, parts: &mut Vec<PathBuf>) -> io::Result<()> {
        match &self.holds {
            Holds::Nothing => return Ok(()),
            Holds::Direct => return Err(io::ErrorKind::AlreadyExists.into()),
            Holds::Part => {
                fs::hard_link(&self.part, &self.target)?;
                // What cannot be removed is a second name of a whole file.
                let _ = fs::remove_file(&self.part);
            }
            Holds::Nameless(file) => nameless::link(file, &self.target)?,
        }
        parts.retain(|known| *known != self.part);
        self.holds = Holds::Nothing;
        Ok(())
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        if matches!(self.holds, Holds::Part) {
            let mut parts = parts();
            // Whoever drops it reports an error already.
            let _ = fs::remove_file(&self.part);
            parts.retain(|known| *known != self.part);
        }
    }
}

fn parts() -> MutexGuard<'static, Vec<PathBuf>> {
    PARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name beside the target that nothing else has.
fn beside(target: &Path) -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = target.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    Ok(target.with_file_name(format!(".{}.{}-{number}.part", name.to_string_lossy(), std::process::id())))
}

fn fill(mut file: &File, target: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Ok(meta) = fs::metadata(target) {
        file.set_permissions(meta.permissions())?;
    }
    file.write_all(bytes)
}

/// Files without a name: O_TMPFILE, and a link to what `/proc` shows of the descriptor.
#[cfg(target_os = "linux")]
mod nameless {
    use std::{fs::File, io, os::fd::AsRawFd, path::Path};

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

    pub fn create(target: &Path) -> io::Result<File> {
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = open(folder, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o666))?;
        Ok(file.into())
    }

    pub fn link(file: &File, name: &Path) -> io::Result<()> {
        let shown = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(linkat(CWD, shown, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod nameless {
    use std::{fs::File, io, path::Path};

    pub fn create(_: &Path) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn link(_: &File, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("chunkwise-whole-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_made_and_replaced_with_nothing_beside_it() {
        let folder = folder("replaced");
        let target = folder.join("x");
        for text in ["first", "second, longer", "third"] {
            write(&target, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), text);
            assert_eq!(names(&folder), ["x"]);
        }
        let part = beside(&target).unwrap();
        Filled::named(target.clone(), part, b"by name").unwrap().name(&mut parts(), &[]).unwrap();
        assert_eq!((fs::read_to_string(&target).unwrap(), names(&folder)), ("by name".into(), vec!["x".into()]));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_is_there_is_not_created() {
        let folder = folder("created");
        let target = folder.join("x");
        create(&target, b"first").unwrap();
        assert_eq!(create(&target, b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let late = |part: Option<PathBuf>| match part {
            Some(part) => Filled::named(target.clone(), part, b"late").unwrap(),
            None => Filled::new(&target, b"late").unwrap(),
        };
        let parts_of = || [Some(beside(&target).unwrap()), None];
        for part in parts_of() {
            let error = late(part).name_first(&mut parts()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!((fs::read_to_string(&target).unwrap(), names(&folder)), ("first".into(), vec!["x".into()]));
        }
        for part in parts_of() {
            fs::remove_file(&target).unwrap();
            late(part).name_first(&mut parts()).unwrap();
            assert_eq!((fs::read_to_string(&target).unwrap(), names(&folder)), ("late".into(), vec!["x".into()]));
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn permissions_and_links_stay() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder("permissions");
        let target = folder.join("x");
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        let link = folder.join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write(&link, b"new").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_error_leaves_nothing() {
        let folder = folder("error");
        assert!(write(&folder.join("no/such/x"), b"x").is_err());
        let target = folder.join("x");
        assert!(Filled::named(target.clone(), folder.join("no/such/part"), b"x").is_err());
        drop(Filled::named(target.clone(), beside(&target).unwrap(), b"x").unwrap());
        assert_eq!(names(&folder), [""; 0]);
        fs::create_dir(&target).unwrap();
        let mut filled = Filled::named(target.clone(), beside(&target).unwrap(), b"x").unwrap();
        assert!(filled.name(&mut parts(), &[]).is_err());
        drop(filled);
        assert_eq!(names(&folder), ["x"]);
        assert!(!parts().iter().any(|part| part.starts_with(&folder)));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn files_that_belong_together_come_together_or_not_at_all() {
        let folder = folder("together");
        let (one, two) = (folder.join("one"), folder.join("two"));
        write_all(&[(&one, b"1"), (&two, b"2")]).unwrap();
        assert_eq!(fs::read_to_string(&two).unwrap(), "2");
        fs::remove_file(&one).unwrap();
        let (place, _) = write_all(&[(&one, b"1"), (&folder.join("no/such"), b"2")]).unwrap_err();
        assert_eq!((place, names(&folder)), (1, vec!["two".into()]));
        fs::remove_dir_all(folder).unwrap();
    }
}
