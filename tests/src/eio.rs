//! Bad sectors on a host without device mapper: chosen reads of one file fail with an I/O error.
//!
//! strace answers the system call in the kernel's place. It counts the reads of each thread by
//! itself; reads of other files neither fail nor count.

use std::path::Path;

/// What to put before a program so that its reads of `file` fail as `which` says, in strace's terms:
/// `3` the third, `2..5` from the second to the fifth, `4+` from the fourth on, `1+2` every other.
///
/// The trace goes to `log`. Programs that it starts are let go (`-b execve`): no wrapper between.
pub fn bad_reads(file: &Path, which: &str, log: &Path) -> Vec<String> {
    let (file, log) = (file.display().to_string(), log.display().to_string());
    let calls = "read,readv,pread64,preadv,preadv2";
    ["strace", "-f", "-qq", "-b", "execve", "-o", &log, "-P", &file, "-e", &format!("trace={calls}"), "-e"]
        .iter()
        .map(ToString::to_string)
        .chain([format!("inject={calls}:error=EIO:when={which}")])
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn chosen_reads_of_one_file_fail() {
        let folder = tempfile::tempdir().unwrap();
        let (bad, good, log) = (folder.path().join("bad"), folder.path().join("good"), folder.path().join("log"));
        let content: Vec<u8> = (0..8u8).flat_map(|block| [block; 4096]).collect();
        for file in [&bad, &good] {
            std::fs::write(file, &content).unwrap();
        }
        let run = |which: &str, rest: &[&str]| {
            let mut command = bad_reads(&bad, which, &log);
            command.extend(rest.iter().map(ToString::to_string));
            Command::new(&command[0]).args(&command[1..]).env("LC_ALL", "C").output().unwrap()
        };
        let (from_bad, from_good) = (format!("if={}", bad.display()), format!("if={}", good.display()));
        // dd goes on behind an error and fills the block with zeros.
        let dd = |which: &str, from: &str| run(which, &["dd", from, "bs=4096", "conv=noerror,sync"]);
        let said = dd("3..4", &from_bad);
        assert!(String::from_utf8_lossy(&said.stderr).contains("Input/output error"), "{said:?}");
        let mut expected = content.clone();
        expected[2 * 4096..4 * 4096].fill(0);
        assert!(said.stdout == expected, "zeros where it could not be read");
        let failed = std::fs::read_to_string(&log).unwrap();
        assert_eq!(failed.matches("EIO").count(), 2, "{failed}");
        let said = dd("1+", &from_good);
        assert!(said.status.success());
        assert!(said.stdout == content, "another file is read as it is");
        let said = run("9+", &["cat", &bad.display().to_string()]);
        assert!(said.status.success() && said.stdout == content);
        let said = run("1", &["cat", &bad.display().to_string()]);
        assert_eq!((said.status.code(), said.stdout.len()), (Some(1), 0));
    }
}
