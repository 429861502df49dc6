//! Keys as text. A server's secret one, 64 hexadecimal digits, lives in a file that only its owner may read; its public one
//! has eight more digits that make a slip of the pen show.

use posse::{SeedError, os_seed};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Bytes read of a key file at most: a key, a line's end, and enough more to see that it is something else.
const MOST: u64 = 256;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("cannot read the key file {}: {source}", .file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("cannot create the key file {}: {source}", .file.display())]
    Create { file: PathBuf, source: io::Error },
    #[error(
        "{} is not a key file: it should hold 64 hexadecimal digits and nothing else. Move it away, and a new key is made \
         (clients then need the new public key)", .file.display()
    )]
    NotAKey { file: PathBuf },
    #[error(transparent)]
    Seed(#[from] SeedError),
}

/// The key in `file`; made there if there is no such file.
pub(crate) fn read_or_create(file: &Path) -> Result<[u8; 32], KeyError> {
    match File::open(file) {
        Ok(open) => read(file, open),
        Err(e) if e.kind() == ErrorKind::NotFound => create(file),
        Err(source) => Err(KeyError::Read { file: file.into(), source }),
    }
}

fn read(file: &Path, open: File) -> Result<[u8; 32], KeyError> {
    let mut text = Vec::new();
    open.take(MOST).read_to_end(&mut text).map_err(|source| KeyError::Read { file: file.into(), source })?;
    let key = str::from_utf8(&text).ok().and_then(|text| from_hex(text.trim()));
    key.ok_or_else(|| KeyError::NotAKey { file: file.into() })
}

fn create(file: &Path) -> Result<[u8; 32], KeyError> {
    let key = os_seed()?;
    let failed = |source| KeyError::Create { file: file.into(), source };
    let mut options = OpenOptions::new();
    // Never over something that another process has just put there.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut open = options.open(file).map_err(failed)?;
    let written = writeln!(open, "{}", hex(&key)).and_then(|()| open.sync_all());
    if let Err(source) = written {
        // Half a key would be refused at the next start.
        let _ = std::fs::remove_file(file);
        return Err(failed(source));
    }
    Ok(key)
}

/// Whether others than its owner may read the file.
#[cfg(unix)]
pub(crate) fn is_exposed(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|m| m.permissions().mode() & 0o077 != 0)
}

/// Only Unix's permissions are understood.
#[cfg(not(unix))]
pub(crate) fn is_exposed(_: &Path) -> bool {
    false
}

/// 64 digits.
pub(crate) fn hex(key: &[u8; 32]) -> String {
    key.iter().map(|b| format!("{b:02x}")).collect()
}

/// A key of 64 digits.
pub(crate) fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; 32];
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(key)
}

/// A public key, for the command line.
pub(crate) fn parse(text: &str) -> Result<[u8; 32], String> {
    posse::secure::parse_key(text).map_err(|why| format!("{why} (`posse serve` prints it)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_then_read_and_nothing_else_is_taken_for_one() {
        let file = std::env::temp_dir().join(format!("posse-key-test-{}", std::process::id()));
        let _ = std::fs::remove_file(&file);
        let key = read_or_create(&file).unwrap();
        assert_eq!(read_or_create(&file).unwrap(), key);
        assert!(!is_exposed(&file));
        for wrong in ["", "12", &format!("{}00", hex(&key)), &"g".repeat(64)] {
            std::fs::write(&file, wrong).unwrap();
            assert!(matches!(read_or_create(&file), Err(KeyError::NotAKey { .. })), "{wrong:?}");
        }
        std::fs::remove_file(&file).unwrap();
        let nowhere = file.join("key");
        assert!(matches!(read_or_create(&nowhere), Err(KeyError::Create { .. })));
    }

    #[test]
    fn hexadecimal_digits_are_read_as_written() {
        let key = std::array::from_fn(|i| 17_u8.wrapping_mul(i as u8));
        assert_eq!(from_hex(&hex(&key)), Some(key));
        assert_eq!(from_hex(&"é".repeat(32)), None);
    }
}
