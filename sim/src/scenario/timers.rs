//! How long a NAT's mappings live, in a scenario file, beside `lifetime`.

use super::read::{BadScenario, Fields};
use crate::Nat;

pub(super) fn read(nat: &mut Nat, fields: &Fields<'_>) -> Result<(), BadScenario> {
    if let Some(value) = fields.get("unreplied") {
        nat.unreplied = Some(value.positive_duration()?);
    }
    if let Some(value) = fields.get("filter-lifetime") {
        nat.filter_lifetime = Some(value.positive_duration()?);
    }
    if let Some(value) = fields.get("absolute") {
        let both: Result<Vec<_>, _> = value.list()?.iter().map(|end| end.positive_duration()).collect();
        match both?[..] {
            [least, most] if least <= most => nat.absolute = Some(least..=most),
            _ => return Err(value.error("expected the least and the most, such as [\"48s\", \"75s\"]")),
        }
    }
    Ok(())
}
