//! IPv6 in a scenario file: `ipv6` of the server and of NATs, `addresses` of clients.

use super::read::{BadScenario, Fields, Named};
use super::tables::{ADDRESSES, WALLS};
use crate::Families;
use crate::nat::Firewall;

/// What a client has that says nothing: whatever its network has.
pub(super) const USUAL: Families = Families::Both;
/// Where IPv6 is asked for without a server that has it.
const NEEDS: &str = "needs `ipv6 = true` of [server]";

/// `ipv6` of a NAT: the firewall before the IPv6 addresses of its network.
pub(super) fn firewall(fields: &Fields<'_>) -> Result<Option<Firewall>, BadScenario> {
    let Some(value) = fields.get("ipv6") else { return Ok(None) };
    let f = value.table(&["filtering", "lifetime", "unreplied", "inbound-refresh"])?;
    let mut wall = Firewall::default();
    if let Some(filtering) = f.get("filtering") {
        wall.filtering = filtering.word(&WALLS)?;
    }
    if let Some(lifetime) = f.get("lifetime") {
        wall.lifetime = lifetime.positive_duration()?;
    }
    if let Some(unreplied) = f.get("unreplied") {
        wall.unreplied = Some(unreplied.positive_duration()?);
    }
    if let Some(refresh) = f.get("inbound-refresh") {
        wall.inbound_refresh = refresh.boolean()?;
    }
    Ok(Some(wall))
}

/// `addresses` of a client.
pub(super) fn addresses(fields: &Fields<'_>) -> Result<Families, BadScenario> {
    fields.get("addresses").map_or(Ok(USUAL), |value| value.word(&ADDRESSES))
}

/// Where the server has no IPv6, nobody has.
pub(super) fn refuse_without_server(root: &Fields<'_>, server: bool) -> Result<(), BadScenario> {
    if server {
        return Ok(());
    }
    for Named { value, .. } in root.named("nat")? {
        if let Some(field) = value.open()?.get("ipv6") {
            return Err(field.error(NEEDS));
        }
    }
    for Named { value, .. } in root.named("client")? {
        if let Some(field) = value.open()?.get("addresses").filter(|v| v.string() == Ok("ipv6")) {
            return Err(field.error(NEEDS));
        }
    }
    Ok(())
}
