//! Who of those signed in may decide what; a try by somebody who may not is an entry of the log.

use phusa_protocol::deed::{Action, Deed, Denied};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::AgencyId;

use super::Portal;
use super::form::Fields;
use super::guard::Visitor;
use crate::accounts::right::{Deciding, Readable, may_decide, readable};
use crate::transfers::deed::write_alone;

/// Whether this visitor may decide this about an agency, or about the whole.
#[must_use]
pub(super) fn decides(visitor: &Visitor, deciding: Deciding, of: Option<&AgencyId>) -> bool {
    let account = &visitor.account;
    may_decide(account.role, account.agency.as_ref(), deciding, of)
}

/// Holds a try against the rule.
///
/// # Errors
/// `right_missing`, after the try became an entry; or when the database does not answer.
pub(super) async fn check(
    portal: &Portal,
    visitor: &Visitor,
    (deciding, of): (Deciding, Option<&AgencyId>),
    action: Action,
) -> Result<(), Fault> {
    if decides(visitor, deciding, of) {
        return Ok(());
    }
    let name = &visitor.account.name;
    let told = Deed::new(name, action).from(&visitor.address).denied(Denied::Right);
    write_alone(&portal.people.warehouse, &portal.people.log, told).await?;
    let what = format!("{name} ({}) may not {}", visitor.account.role, deciding.words());
    Err(Fault::new(Code::RightMissing, what))
}

/// Whether this visitor may look at what concerns an agency; what concerns none is the hub's own.
#[must_use]
pub(super) fn sees(visitor: &Visitor, agency: Option<&str>) -> bool {
    match readable(&visitor.actor) {
        Readable::All => true,
        Readable::Of(own) => agency == Some(own.as_str()),
        Readable::None => false,
    }
}

/// The agency that a filter asks for, by right: people of a unit ask for their own, whatever they typed.
/// `None` for those who may ask for nothing.
pub(super) fn asked_agency(visitor: &Visitor, fields: &Fields) -> Option<Option<AgencyId>> {
    match readable(&visitor.actor) {
        Readable::All => Some(fields.given("agency").and_then(|text| AgencyId::new(text).ok())),
        Readable::Of(own) => Some(Some(own)),
        Readable::None => None,
    }
}
