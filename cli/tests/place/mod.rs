//! A folder with a program in it, and the command run there: what every test of the command starts from.

#![allow(dead_code, reason = "not every test crate looks at everything")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use chunkwise_runtime::{Tensor, Tensors, tensor};

/// A gated linear attention with a scalar decay, small enough to run in no time.
pub const PROGRAM: &str = "variant gated {
  axes    B, T, H, K, V;
  input   q, k : [B,T,H,K], v : [B,T,H,V], g : [B,T,H];
  state   S : [K,V] = 0;
  decay   a[t] = exp(g[t]);
  update  S additive(k, v);
  output  o[t] = S[t]' * q[t];
  check   draw(g = logdecay);
}
";

/// A folder of its own for each test; removed when done.
pub struct Place(PathBuf);

impl Place {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("chunkwise-cli-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("gated.attn"), PROGRAM).unwrap();
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn tensors(&self, name: &str, tensors: Tensors) -> String {
        tensor::write(&self.path(name), &tensors).unwrap();
        name.to_string()
    }

    /// Runs the command in the folder.
    pub fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, &[])
    }

    /// The command, to be run in the folder.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chunkwise"));
        command.current_dir(&self.0);
        command
    }

    /// A command of the shell, to be run in the folder.
    pub fn shell(&self, text: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", text]).current_dir(&self.0);
        command
    }

    /// The same with environment variables set.
    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Done {
        let output = self.command().args(arguments).envs(environment.iter().copied()).output().unwrap();
        Done {
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs `chunkwise run` on a file of tensors; an output file must be there exactly if that succeeds.
    pub fn run_on(&self, tensors: &str) -> Done {
        let done = self.run(&["run", "gated.attn", "--inputs", tensors, "--output", "out.safetensors"]);
        assert_eq!(self.path("out.safetensors").exists(), done.status == 0, "{}", done.stderr);
        let left = fs::read_dir(&self.0).unwrap().filter(|file| hidden(&file.as_ref().unwrap().path())).count();
        assert_eq!(left, 0, "a partial file was left");
        done
    }
}

fn hidden(path: &Path) -> bool {
    path.file_name().unwrap().to_string_lossy().starts_with('.')
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub struct Done {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Ended so, said all this on stderr, and no result.
    pub fn fails(&self, status: i32, says: &[&str]) {
        assert_eq!(self.status, status, "{}", self.stderr);
        assert_eq!(self.stdout, "", "a failure gives no result");
        for said in says {
            assert!(self.stderr.contains(said), "expected `{said}` in:\n{}", self.stderr);
        }
    }

    pub fn succeeds(&self) -> &str {
        assert_eq!(self.status, 0, "{}", self.stderr);
        &self.stdout
    }
}

/// Inputs of 2 batch elements, 5 tokens, 3 heads, K = 4, V = 6.
pub fn inputs() -> Tensors {
    let drawn = |shape: &[usize], scale: f32| {
        let len: usize = shape.iter().product();
        Tensor::f32(shape.to_vec(), (0..len).map(|n| scale * ((n * 7 % 11) as f32 - 5.0)).collect())
    };
    let decays = Tensor::f32(vec![2, 5, 3], (0..30).map(|n| -0.1 * (n % 4) as f32).collect());
    Tensors::from([
        ("q".to_string(), drawn(&[2, 5, 3, 4], 0.1)),
        ("k".to_string(), drawn(&[2, 5, 3, 4], 0.2)),
        ("v".to_string(), drawn(&[2, 5, 3, 6], 0.3)),
        ("g".to_string(), decays),
    ])
}
