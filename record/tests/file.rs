//! Recordings as files: what was recorded comes again, and what is no such recording is refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use posse_core::{
    Channel, Client, ClientConfig, Input, Instant, Machine, Outbox, PeerId, SendOptions, SocketId, SocketInput,
};
use posse_record::{Construction, ReadError, Recorder, Replayed, is_recording};
use std::path::PathBuf;

/// A file that is gone with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("posse-record-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn config() -> ClientConfig {
    let key = posse_core::secure::public_key(&[9; 32]);
    let mut config = ClientConfig::new(([192, 0, 2, 1], 7).into(), key, 1, [3; 32]);
    config.token = b"token".to_vec();
    config.timers.handshake = posse_core::Duration::from_secs(3);
    config
}

/// Records a client that asks and asks for three seconds, and nobody answers.
fn record(place: &Place) {
    let recorder = Recorder::create(&place.0, &Construction::Client(Box::new(config()))).unwrap();
    let mut client = Client::new(Instant::ZERO, config()).unwrap();
    client.tap(Some(Box::new(recorder.clone())));
    let mut out = Outbox::with_capacity(10_000, 10);
    let local = ([127, 0, 0, 1], 5).into();
    client.handle(Instant(1), Input::Socket(SocketId::MAIN, SocketInput::Opened { local, max_segments: 1 }), &mut out);
    for ms in 0..4000 {
        let now = Instant::from_millis(ms);
        client.transmit(now, &mut out);
        out.sends().for_each(|(transmit, bytes)| recorder.sent(transmit, bytes));
        recorder.all_sent();
        out.clear();
        client.poll_event(now, &mut Vec::new());
        let _ = client.send(now, PeerId::SERVER, Channel(0), b"too early", SendOptions::default());
    }
    assert!(recorder.take_error().is_none());
}

#[test]
fn what_was_recorded_comes_again() {
    let place = Place::new("whole");
    record(&place);
    assert!(is_recording(&place.0));
    let replayed = Replayed::of(&place.0).unwrap();
    assert!(replayed.is_same() && !replayed.cut_short);
    assert_eq!((replayed.role, replayed.entries, replayed.until), ("client", 12_001, Instant::from_millis(3999)));
    assert!(replayed.datagrams > 2 && replayed.checkpoints > 10);
    let again = Recorder::create(&place.0, &Construction::Client(Box::new(config())));
    assert_eq!(again.err().unwrap().kind(), std::io::ErrorKind::AlreadyExists, "a recording is never written over");
    #[cfg(unix)]
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&place.0.metadata().unwrap().permissions()) & 0o077, 0);
}

#[test]
fn what_a_crash_left_is_compared_as_far_as_it_goes() {
    let place = Place::new("cut");
    record(&place);
    let bytes = std::fs::read(&place.0).unwrap();
    // Half of what was recorded, and a byte less than whole entries.
    let half = (0..).map(|more| bytes.len() / 2 + more).find(|&len| {
        std::fs::write(&place.0, &bytes[..len]).unwrap();
        Replayed::of(&place.0).unwrap().cut_short
    });
    assert!(half.is_some_and(|len| len < bytes.len() / 2 + 40), "an entry has fewer bytes");
    let replayed = Replayed::of(&place.0).unwrap();
    assert!(replayed.is_same() && replayed.cut_short && replayed.checkpoints > 2, "{replayed:?}");
}

#[test]
fn another_outcome_is_noticed() {
    let place = Place::new("changed");
    record(&place);
    let mut bytes = std::fs::read(&place.0).unwrap();
    // The seed, in the header.
    let seed = bytes.windows(32).position(|window| window == [3; 32]).unwrap();
    bytes[seed] ^= 1;
    std::fs::write(&place.0, &bytes).unwrap();
    assert!(Replayed::of(&place.0).unwrap().differs_after.is_some());
}

#[test]
fn another_version_and_what_is_damaged_are_refused_in_words() {
    let place = Place::new("refused");
    record(&place);
    let bytes = std::fs::read(&place.0).unwrap();
    let refused = |bytes: &[u8]| {
        std::fs::write(&place.0, bytes).unwrap();
        Replayed::of(&place.0).unwrap_err()
    };
    let with = |at: usize, byte: u8| {
        let mut changed = bytes.clone();
        changed[at] = byte;
        changed
    };
    assert!(matches!(refused(b"[scenario]"), ReadError::NotARecording));
    let format = refused(&with(9, 2));
    assert_eq!(format.to_string(), "a recording in version 2 of the format, this program reads 1");
    // The core's version is text, after the record's length, its kind and the text's length.
    let core = refused(&with(10 + 4 + 1 + 8, b'7'));
    assert!(matches!(&core, ReadError::Core { found } if found.starts_with('7')), "{core}");
    // The kind of the construction.
    let text = 10 + 4 + 1 + 8 + env!("CARGO_PKG_VERSION").len();
    assert!(matches!(refused(&with(text, 9)), ReadError::Header));
    // The first entry's kind of record.
    let header = u32::from_be_bytes(bytes[10..14].try_into().unwrap()) as usize;
    assert!(matches!(refused(&with(14 + header + 4, 9)), ReadError::Damaged { record: 1 }));
    assert!(matches!(refused(&with(14 + header, 0xff)), ReadError::Damaged { record: 1 }));
}
