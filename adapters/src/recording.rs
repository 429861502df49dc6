//! The flight recorder at a driver: a session in a file, if the application asked for one.

#[cfg(feature = "recorder")]
use posse_core::Machine;
use posse_core::Transmit;
use std::io;
use std::path::PathBuf;

/// No recording could be begun.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the recording {}: {source}", .file.display())]
pub struct RecordError {
    file: PathBuf,
    source: io::Error,
}

/// What is recorded, if anything.
#[derive(Default)]
pub(crate) struct Recording {
    #[cfg(feature = "recorder")]
    recorder: Option<posse_record::Recorder>,
}

impl Recording {
    /// Begins to record what enters `machine`, which was made just now, into a file, as made so.
    #[cfg(feature = "recorder")]
    pub(crate) fn begin(
        machine: &mut impl Machine,
        wish: Option<(PathBuf, posse_record::Construction)>,
    ) -> Result<Self, RecordError> {
        let Some((file, construction)) = wish else { return Ok(Self::default()) };
        match posse_record::Recorder::create(&file, &construction) {
            Ok(recorder) => {
                machine.tap(Some(Box::new(recorder.clone())));
                Ok(Self { recorder: Some(recorder) })
            }
            Err(source) => Err(RecordError { file, source }),
        }
    }

    /// Why it ended early, once.
    #[cfg(feature = "recorder")]
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        self.recorder.as_ref()?.take_error()
    }

    #[cfg_attr(not(feature = "recorder"), expect(clippy::unused_self, reason = "nothing is recorded"))]
    pub(crate) fn sent(&self, _transmit: &Transmit, _bytes: &[u8]) {
        #[cfg(feature = "recorder")]
        if let Some(recorder) = &self.recorder {
            recorder.sent(_transmit, _bytes);
        }
    }

    #[cfg_attr(not(feature = "recorder"), expect(clippy::unused_self, reason = "nothing is recorded"))]
    pub(crate) fn all_sent(&self) {
        #[cfg(feature = "recorder")]
        if let Some(recorder) = &self.recorder {
            recorder.all_sent();
        }
    }
}
