//! What the bounds that people set mean to a link, and what it refuses by them.

use crate::client::SendError;
use crate::command::SendOptions;
use crate::config::{Congestion, Limits};
use crate::ids::PeerId;
use crate::transport::{TransportConfig, TransportSendError};

/// What no link takes, whatever its state: so that a message to a group is refused even if nobody else is in it.
pub(crate) fn check_message(
    config: &TransportConfig,
    reliable: bool,
    bytes: &[u8],
    options: &SendOptions,
) -> Result<(), SendError> {
    let max = if reliable { config.max_message } else { config.max_unreliable };
    match () {
        () if bytes.len() > max => Err(SendError::TooLarge { max }),
        () if reliable && options.deadline.is_some() => Err(SendError::ReliableDeadline),
        () => Ok(()),
    }
}

pub(crate) fn send_error(error: TransportSendError, to: PeerId) -> SendError {
    match error {
        TransportSendError::Full | TransportSendError::Sequence => SendError::Full { to },
        TransportSendError::TooLarge { max } => SendError::TooLarge { max },
        TransportSendError::ReliableDeadline => SendError::ReliableDeadline,
        TransportSendError::TooManyScopes => SendError::TooManyChannels { to },
    }
}

/// The transport's bounds, from those that people set.
pub(crate) fn transport_config(limits: &Limits, congestion: Congestion) -> TransportConfig {
    TransportConfig {
        max_message: limits.max_message,
        send_buffer: limits.send_buffer,
        receive_credit: limits.receive_buffer as u64,
        congestion,
        ..TransportConfig::default()
    }
}

/// Most messages that can be ready on a link at a time, by the same bounds.
pub(crate) fn most_ready(limits: &Limits) -> usize {
    transport_config(limits, Congestion::default()).most_ready()
}
