//! One record with all its versions, for those who may read rows: each look is an entry of the log before
//! anything is shown. The key comes in the body of a form, and stands in no address and no log.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use phusa_protocol::deed::Action;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use phusa_protocol::time::Timestamp;

use super::deciding::{check, decides, sees};
use super::guard::{Sent, Visitor, failed};
use super::words::Lang;
use super::{Portal, frame};
use crate::accounts::right::Deciding;
use crate::catalog::Agreed;
use crate::config::profile::Profile;
use crate::reading::{self, Asker, Found};
use crate::transfers::page::numbers;
use crate::warehouse::history::{SHOWN_BEHIND, Which};

/// Versions on one page, the newest; the console and an export show all.
const VERSIONS_MAX: usize = 200;

/// Whether this visitor may look at records of a dataset.
pub(super) fn reads(visitor: &Visitor, agreed: &Agreed) -> bool {
    decides(visitor, Deciding::Read, Some(&agreed.contract.owner))
}

/// The dataset, where this visitor may know that it is there.
fn agreed(portal: &Portal, visitor: &Visitor, dataset: &str) -> Option<Arc<Agreed>> {
    let contracts = portal.catalog.current();
    let found = DatasetId::new(dataset).ok().and_then(|id| contracts.get(&id).cloned());
    found.filter(|agreed| sees(visitor, Some(agreed.contract.owner.as_str())))
}

fn unknown(lang: Lang) -> Response {
    let text = lang.say("Không có bộ dữ liệu này.", "There is no such dataset.");
    frame::message(lang, StatusCode::NOT_FOUND, text)
}

/// `GET /datasets/{dataset}/record`: asks for a key and a purpose.
pub(super) async fn ask(
    State(portal): State<Portal>,
    Path(dataset): Path<String>,
    visitor: Visitor,
) -> Response {
    let Some(agreed) = agreed(&portal, &visitor, &dataset) else { return unknown(visitor.lang) };
    if let Err(fault) = may(&portal, &visitor, &agreed).await {
        return failed(visitor.lang, &fault);
    }
    page(&visitor, &agreed, &form(&visitor, &portal.profile, &agreed))
}

/// Holds a look against the rule; a try by somebody who may not is an entry.
async fn may(portal: &Portal, visitor: &Visitor, agreed: &Agreed) -> Result<(), Fault> {
    let about = (Deciding::Read, Some(&agreed.contract.owner));
    check(portal, visitor, about, Action::Decide).await
}

/// `POST /datasets/{dataset}/record`: shows every version of the record.
pub(super) async fn show(
    State(portal): State<Portal>,
    Path(dataset): Path<String>,
    Sent(visitor, fields): Sent,
) -> Response {
    let Some(agreed) = agreed(&portal, &visitor, &dataset) else { return unknown(visitor.lang) };
    let done = async {
        may(&portal, &visitor, &agreed).await?;
        let (by, purpose) = (visitor.account.name.clone(), fields.get("purpose").to_owned());
        let asker = Asker { by, purpose };
        asker.check(&portal.profile, &agreed)?;
        let key: Vec<String> = fields.all("key").map(ToOwned::to_owned).collect();
        if key.iter().any(|text| text.chars().count() > KEY_CHARACTERS_MAX) {
            return Err(Fault::new(Code::KeyUnfit, "a part of the key is too long"));
        }
        let (people, wanted) = (&portal.people, (Which::History, &asker));
        let found =
            reading::record((&people.warehouse, &people.log), &agreed, &key, wanted).await?;
        let of = |row: &Vec<Option<String>>| transfer(&found, row);
        let transfers: Vec<i64> =
            found.rows.iter().rev().take(VERSIONS_MAX).filter_map(of).collect();
        let known = numbers(&people.warehouse, &transfers).await?;
        Ok::<_, Fault>((found, known))
    };
    match done.await {
        Ok((found, known)) => {
            let shown = html! {
                (versions(visitor.lang, &agreed, &found, &known))
                (form(&visitor, &portal.profile, &agreed))
            };
            page(&visitor, &agreed, &shown)
        }
        Err(fault) => failed(visitor.lang, &fault),
    }
}

/// Characters of one part of a key.
const KEY_CHARACTERS_MAX: usize = 1_000;

fn page(visitor: &Visitor, agreed: &Agreed, content: &Markup) -> Response {
    let lang = visitor.lang;
    let title = lang.say("Lịch sử của một bản ghi", "History of a record");
    let dataset = agreed.contract.dataset.to_string();
    let content = html! {
        p { a href={ "/datasets/" (dataset) } { "← " (agreed.contract.title_vi) } }
        div.head { h1 { (title) } code { (dataset) } }
        (content)
    };
    frame::page(visitor, title, &content)
}

fn form(visitor: &Visitor, profile: &Profile, agreed: &Agreed) -> Markup {
    let (lang, contract) = (visitor.lang, &agreed.contract);
    let named = |name: &str| {
        let field = contract.fields.iter().find(|field| field.name == name);
        field.map(|field| field.name_vi.clone()).unwrap_or_default()
    };
    let allowed = |name: &String| contract.purposes.is_empty() || contract.purposes.contains(name);
    html! {
        form.card method="post" action={ "/datasets/" (contract.dataset) "/record" } autocomplete="off" {
            (frame::form_token(visitor))
            p.notice { (lang.say(
                "Mỗi lần xem là một dòng trong nhật ký truyền nhận: ai, lúc nào, để làm gì, bao nhiêu phiên bản. Khóa chỉ được ghi dưới dạng cam kết băm.",
                "Each look is an entry of the transfer log: who, when, what for, how many versions. The key stands in it as a salted commitment alone.")) }
            @for (index, name) in contract.key.iter().enumerate() {
                label for={ "key" (index) } { (named(name)) " " code { (name) } }
                input id={ "key" (index) } name="key" maxlength=(KEY_CHARACTERS_MAX) autocomplete="off" required;
            }
            label for="purpose" { (lang.say("Mục đích", "Purpose")) }
            select id="purpose" name="purpose" required {
                @for purpose in profile.purposes.iter().filter(|one| allowed(&one.name)) {
                    option value=(purpose.name) { (match lang { Lang::Vi => &purpose.title_vi, Lang::En => &purpose.title_en }) }
                }
            }
            p.act { button { (lang.say("Xem lịch sử", "Show its history")) } }
        }
    }
}

/// The place of a column behind the fields.
fn behind<'a>(found: &Found, row: &'a [Option<String>], name: &str) -> Option<&'a str> {
    let place = found.columns.iter().rposition(|column| column == name)?;
    row.get(place)?.as_deref()
}

fn transfer(found: &Found, row: &[Option<String>]) -> Option<i64> {
    behind(found, row, "_transfer")?.parse().ok()
}

/// The newest version first, with what changed in it marked.
fn versions(lang: Lang, agreed: &Agreed, found: &Found, known: &BTreeMap<i64, u64>) -> Markup {
    let fields = found.columns.len().saturating_sub(SHOWN_BEHIND.len());
    let newest = || found.rows.iter().enumerate().rev().take(VERSIONS_MAX);
    html! {
        p.notice role="status" {
            b { (found.rows.len()) } (lang.say(" phiên bản. Lần xem này là lần truyền số ", " versions. This look is transfer "))
            (found.transfer) (lang.say(" trong ", " in ")) a href="/transfers?kind=read" { (lang.say("nhật ký", "the log")) } "."
            @if found.rows.len() > VERSIONS_MAX {
                " " (lang.say("Chỉ hiện các phiên bản mới nhất.", "The newest alone are shown."))
            }
        }
        @for (index, row) in newest() {
            @let before = index.checked_sub(1).and_then(|before| found.rows.get(before));
            h2 { (lang.say("Từ ", "From ")) (moment(behind(found, row, "_source_time")))
                @match behind(found, row, "_until") {
                    Some(until) => { (lang.say(" đến ", " to ")) (moment(Some(until))) }
                    None => { " " span.tag.good { (lang.say("đang hiệu lực", "in force")) } }
                }
            }
            div.card {
                p { (lang.say("Cơ quan ", "Agency ")) (behind(found, row, "_agency").unwrap_or("–"))
                    " · " (entry(lang, transfer(found, row), known)) }
                table.facts { @for (place, name) in found.columns.iter().take(fields).enumerate() {
                    @let value = row.get(place).and_then(Option::as_deref);
                    @let changed = before.is_some_and(|before| before.get(place) != row.get(place));
                    tr {
                        th scope="row" { (title(agreed, name)) " " code { (name) } }
                        td {
                            @match value { Some(value) => { (value) } None => { span.quiet { "–" } } }
                            @if changed { " " span.tag.wait { (lang.say("đã đổi", "changed")) } }
                        }
                    }
                } }
            }
        }
    }
}

fn title<'a>(agreed: &'a Agreed, name: &str) -> &'a str {
    let field = agreed.contract.fields.iter().find(|field| field.name == name);
    field.map_or("", |field| field.name_vi.as_str())
}

/// The entry that brought a version.
fn entry(lang: Lang, transfer: Option<i64>, known: &BTreeMap<i64, u64>) -> Markup {
    let number = transfer.and_then(|transfer| known.get(&transfer));
    html! {
        @match (number, transfer) {
            (Some(number), _) => {
                a href={ "/transfers/" (number) } { (lang.say("dòng nhật ký ", "entry ")) (number) }
            }
            (None, Some(transfer)) => { (lang.say("lần truyền ", "transfer ")) (transfer) }
            (None, None) => { "–" }
        }
    }
}

/// A moment as PostgreSQL writes it, in Vietnamese form; as it is where it cannot be read.
fn moment(text: Option<&str>) -> String {
    let Some(text) = text else { return "–".to_owned() };
    Timestamp::try_from(text.to_owned()).map_or_else(|_| text.to_owned(), Timestamp::vietnamese)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_of_the_database_is_told_as_people_here_write_it() {
        assert!(moment(Some("2026-11-27 04:38:01+00")).contains("27/11/2026"));
        assert_eq!(moment(Some("infinity")), "infinity");
        assert_eq!(moment(None), "–");
    }
}
