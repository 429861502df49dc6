//! The file: written as a session goes, read back to be replayed.

use crate::code::{Get, Put, Unknown};
use crate::config::Construction;
use crate::entry::{Feeder, Replay};
use posse_core::{Client, Entry, Instant, Server, Tap, Transmit, Via};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::fs::{File, OpenOptions};
use std::hash::Hasher;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

const MAGIC: [u8; 8] = *b"POSSEREC";
/// Whoever changes the format raises it.
const VERSION: u16 = 1;
/// Behaviour belongs to it.
const CORE: &str = env!("CARGO_PKG_VERSION");
/// Entries between two checkpoints: at a game's pace, some seconds.
const CHECKPOINT: u32 = 1024;
/// Bytes of a record at most: the longest message, 16 MiB, and room for what stands around it.
const MAX_RECORD: usize = 17 << 20;

const HEADER: u8 = 0;
const ENTRY: u8 = 1;
const MARK: u8 = 2;

/// A digest over the datagrams that a machine sends: socket, destination, ECN and bytes of each, in order. How they were
/// batched does not matter.
#[derive(Clone)]
struct Sent {
    hasher: SipHasher13,
    datagrams: u64,
}

impl Sent {
    fn new() -> Self {
        Self { hasher: SipHasher13::new_with_keys(0, 0), datagrams: 0 }
    }

    fn add(&mut self, transmit: &Transmit, bytes: &[u8]) {
        let Via::Datagram { socket, to, .. } = transmit.via else { return };
        let ip = match to.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        for datagram in bytes.chunks(transmit.segment.map_or(bytes.len(), usize::from).max(1)) {
            self.datagrams += 1;
            self.hasher.write(&socket.0.to_le_bytes());
            self.hasher.write(&ip.octets());
            self.hasher.write(&to.port().to_le_bytes());
            self.hasher.write(&[transmit.ecn.bits()]);
            self.hasher.write(&(datagram.len() as u64).to_le_bytes());
            self.hasher.write(datagram);
        }
    }

    fn digest(&self) -> u128 {
        self.hasher.finish128().as_u128()
    }
}

/// Writes a session down. Clones share one file: one goes to [`Machine::tap`](posse_core::Machine::tap), another to whoever
/// sends for the machine. When the last is gone, the file is complete.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Inner>>);

struct Inner {
    file: BufWriter<File>,
    sent: Sent,
    since_mark: u32,
    error: Option<io::Error>,
    /// Reused for each record.
    body: Vec<u8>,
}

impl Recorder {
    /// Creates `file`, which must not be there yet, readable for its owner alone. The machine is to be made as `construction`
    /// says, at [`Instant::ZERO`], and tapped before anything else happens to it.
    pub fn create(file: &Path, construction: &Construction) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = BufWriter::new(options.open(file)?);
        file.write_all(&MAGIC)?;
        file.write_all(&VERSION.to_be_bytes())?;
        let mut inner = Inner { file, sent: Sent::new(), since_mark: 0, error: None, body: Vec::new() };
        inner.record(HEADER, |put| {
            put.bytes(CORE.as_bytes());
            construction.put(put)
        });
        match inner.error.take() {
            Some(error) => Err(error),
            None => Ok(Self(Arc::new(Mutex::new(inner)))),
        }
    }

    /// The machine sends this.
    pub fn sent(&self, transmit: &Transmit, bytes: &[u8]) {
        self.with(|inner| inner.sent.add(transmit, bytes));
    }

    /// All that the machine has sent so far was told by [`Self::sent`].
    pub fn all_sent(&self) {
        self.with(|inner| {
            if inner.since_mark >= CHECKPOINT {
                inner.mark();
            }
        });
    }

    /// Why the recording ended early, once.
    pub fn take_error(&self) -> Option<io::Error> {
        self.with(|inner| inner.error.take())
    }

    fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tap for Recorder {
    fn record(&mut self, now: Instant, entry: Entry<'_>) {
        self.with(|inner| {
            inner.since_mark = inner.since_mark.saturating_add(1);
            inner.record(ENTRY, |put| put.entry(now, &entry));
        });
    }
}

impl Inner {
    /// Writes one record. After an error, none any more: a gap would not replay.
    fn record(&mut self, kind: u8, write: impl FnOnce(&mut Put<'_>) -> Result<(), Unknown>) {
        if self.error.is_some() {
            return;
        }
        self.body.clear();
        self.body.push(kind);
        let written = write(&mut Put(&mut self.body));
        let outcome = match (written, u32::try_from(self.body.len())) {
            (Ok(()), Ok(len)) if self.body.len() <= MAX_RECORD => {
                self.file.write_all(&len.to_be_bytes()).and_then(|()| self.file.write_all(&self.body))
            }
            _ => Err(io::Error::new(ErrorKind::Unsupported, "something happened that the format has no place for")),
        };
        self.error = outcome.err();
    }

    fn mark(&mut self) {
        self.since_mark = 0;
        let (datagrams, digest) = (self.sent.datagrams, self.sent.digest());
        self.record(MARK, |put| {
            put.u64(datagrams);
            put.0.extend_from_slice(&digest.to_be_bytes());
            Ok(())
        });
        // What a crash leaves is worth reading up to here.
        if let Err(error) = self.file.flush() {
            self.error.get_or_insert(error);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.mark();
    }
}

/// Why a file is not replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("not a recording")]
    NotARecording,
    /// Of another version of the format.
    #[error("a recording in version {found} of the format, this program reads {VERSION}")]
    Format {
        /// Which.
        found: u16,
    },
    /// Of another version of the core, which may do something else with the same inputs.
    #[error("recorded by version {found}, and this is {CORE}: replay it with the version that recorded it")]
    Core {
        /// Which.
        found: String,
    },
    /// Its header cannot be read, or holds what this version cannot make again.
    #[error("the recorded configuration is not one that this program can make")]
    Header,
    /// A record cannot be read.
    #[error("record {record} of the file is damaged")]
    Damaged {
        /// Which, counted from 0, the header.
        record: u64,
    },
}

/// Whether a file begins as recordings do.
pub fn is_recording(file: &Path) -> bool {
    let mut magic = [0; MAGIC.len()];
    File::open(file).is_ok_and(|mut file| file.read_exact(&mut magic).is_ok()) && magic == MAGIC
}

/// What came of a replay.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Replayed {
    /// "client" or "server".
    pub role: &'static str,
    /// Calls that entered the machine.
    pub entries: u64,
    /// The machine's time at the last of them.
    pub until: Instant,
    /// Datagrams that the machine sent, now.
    pub datagrams: u64,
    /// Digest over them.
    pub digest: u128,
    /// Checkpoints of the recording.
    pub checkpoints: u64,
    /// The first of them that is not as recorded: after so many entries.
    pub differs_after: Option<u64>,
    /// Whether the file ends in the middle of a record, as a crash leaves it.
    pub cut_short: bool,
}

impl Replayed {
    /// Reads `file` and replays it.
    pub fn of(file: &Path) -> Result<Self, ReadError> {
        let mut file = BufReader::new(File::open(file)?);
        let mut magic = [0; MAGIC.len()];
        file.read_exact(&mut magic).map_err(|_| ReadError::NotARecording)?;
        if magic != MAGIC {
            return Err(ReadError::NotARecording);
        }
        let mut version = [0; 2];
        file.read_exact(&mut version).map_err(|_| ReadError::NotARecording)?;
        let found = u16::from_be_bytes(version);
        if found != VERSION {
            return Err(ReadError::Format { found });
        }
        let mut body = Vec::new();
        if !next_record(&mut file, &mut body)? {
            return Err(ReadError::Header);
        }
        match header(&body)? {
            Construction::Client(config) => {
                let mut client = Client::new(Instant::ZERO, *config).map_err(|_| ReadError::Header)?;
                replay("client", &mut client, &mut file)
            }
            Construction::Server(config) => {
                let mut server = Server::new(Instant::ZERO, *config).map_err(|_| ReadError::Header)?;
                replay("server", &mut server, &mut file)
            }
        }
    }

    /// Whether it came to what was recorded, at every checkpoint.
    pub fn is_same(&self) -> bool {
        self.differs_after.is_none()
    }
}

fn header(body: &[u8]) -> Result<Construction, ReadError> {
    let mut get = Get(body);
    if get.u8() != Some(HEADER) {
        return Err(ReadError::Header);
    }
    let core = get.bytes().ok_or(ReadError::Header)?;
    if core != CORE.as_bytes() {
        return Err(ReadError::Core { found: String::from_utf8_lossy(core).into_owned() });
    }
    Construction::get(&mut get).ok_or(ReadError::Header)
}

fn replay(role: &'static str, machine: &mut dyn Replay, file: &mut impl Read) -> Result<Replayed, ReadError> {
    let (mut feeder, mut sent, mut body) = (Feeder::default(), Sent::new(), Vec::new());
    let (mut entries, mut checkpoints, mut record) = (0, 0, 0);
    let (mut until, mut differs_after, mut cut_short) = (Instant::ZERO, None, false);
    loop {
        record += 1;
        match next_record(file, &mut body) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                cut_short = true;
                break;
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => return Err(ReadError::Damaged { record }),
            Err(error) => return Err(error.into()),
        }
        let damaged = ReadError::Damaged { record };
        match body.split_first() {
            Some((&ENTRY, rest)) => {
                let (now, entry) = Get(rest).entry().ok_or(damaged)?;
                feeder.feed(machine, now, &entry, |transmit, bytes| sent.add(transmit, bytes));
                entries += 1;
                until = until.max(now);
            }
            Some((&MARK, rest)) => {
                let mut get = Get(rest);
                let recorded = get.u64().zip(get.array().map(u128::from_be_bytes)).ok_or(damaged)?;
                checkpoints += 1;
                if recorded != (sent.datagrams, sent.digest()) {
                    differs_after.get_or_insert(entries);
                }
            }
            _ => return Err(damaged),
        }
    }
    let (datagrams, digest) = (sent.datagrams, sent.digest());
    Ok(Replayed { role, entries, until, datagrams, digest, checkpoints, differs_after, cut_short })
}

/// The next record into `body`; `false` at the end of the file. What its length claims is believed as far as there are
/// bytes.
fn next_record(file: &mut impl Read, body: &mut Vec<u8>) -> io::Result<bool> {
    let mut len = Vec::new();
    file.by_ref().take(4).read_to_end(&mut len)?;
    let len = match <[u8; 4]>::try_from(len.as_slice()) {
        Ok(len) => u64::from(u32::from_be_bytes(len)),
        Err(_) if len.is_empty() => return Ok(false),
        Err(_) => return Err(ErrorKind::UnexpectedEof.into()),
    };
    if len > MAX_RECORD as u64 {
        return Err(ErrorKind::InvalidData.into());
    }
    body.clear();
    let read = file.by_ref().take(len).read_to_end(body)?;
    if (read as u64) < len { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(true) }
}
