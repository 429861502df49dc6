//! Which ways traffic may go, in a scenario file: the fields `punch` and `prefer`, wherever they stand.

use super::read::{BadScenario, Fields};
use posse_core::{PathPolicy, Prefer, PunchPolicy};

pub(super) const PUNCH: [(&str, PunchPolicy); 3] =
    [("always", PunchPolicy::Always), ("on-traffic", PunchPolicy::OnTraffic), ("never", PunchPolicy::Never)];

pub(super) const PREFER: [(&str, Prefer); 4] = [
    ("direct", Prefer::Direct),
    ("fastest", Prefer::Fastest),
    ("direct-only", Prefer::DirectOnly),
    ("relay-only", Prefer::RelayOnly),
];

/// The policy among the fields of a table; what is not said is allowed.
pub(super) fn read(fields: &Fields<'_>) -> Result<PathPolicy, BadScenario> {
    let punch = fields.get("punch").map(|v| v.word(&PUNCH)).transpose()?;
    let prefer = fields.get("prefer").map(|v| v.word(&PREFER)).transpose()?;
    Ok(PathPolicy { punch: punch.unwrap_or_default(), prefer: prefer.unwrap_or_default() })
}
