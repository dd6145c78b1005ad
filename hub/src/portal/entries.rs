//! The transfer log for people, by right: filtered, paged, one entry with its proof.

use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use phusa_protocol::batch::Header;
use phusa_protocol::deed::{Action, Denied};
use phusa_protocol::entry::act::{Act, BackupStep};
use phusa_protocol::entry::{Entry, IdentityAct, Kind};
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;

use super::deciding::{asked_agency, sees};
use super::form::{Fields, query};
use super::guard::{Visitor, failed};
use super::own::fact;
use super::words::Lang;
use super::{Portal, frame};
use crate::accounts::right::{Readable, readable};
use crate::listen::log::policy;
use crate::transfers::evidence::{Found, Heads, Stage, Which, find, prove};
use crate::transfers::kind_name;
use crate::transfers::minutes::page::count;
use crate::transfers::page::{Asked, Listed, list as page_of};
use crate::transfers::publish::blocking;

/// Entries on a page.
const LINES: i64 = 50;

/// What the filter says, by right.
fn asked(visitor: &Visitor, fields: &Fields) -> Option<Asked> {
    let agency = asked_agency(visitor, fields)?;
    Some(Asked {
        agency,
        kind: fields.given("kind").map(ToOwned::to_owned),
        dataset: fields.given("dataset").and_then(|text| DatasetId::new(text).ok()),
        before: fields.get("before").parse().ok(),
        lines: LINES,
    })
}

/// `GET /transfers`.
pub(super) async fn list(
    State(portal): State<Portal>,
    RawQuery(query): RawQuery,
    visitor: Visitor,
) -> Response {
    let fields = Fields::of_query(query.as_deref());
    let Some(asked) = asked(&visitor, &fields) else {
        let content = html! {
            h1 { (visitor.lang.say("Nhật ký truyền nhận", "Transfer log")) }
            p { (visitor.lang.say("Vai trò của bạn không đọc nhật ký.", "Your role does not read the log.")) }
        };
        return frame::page(&visitor, visitor.lang.say("Nhật ký", "Transfers"), &content);
    };
    let warehouse = &portal.people.warehouse;
    let found = async {
        let heads = Heads::read(warehouse, &portal.folder).await?;
        Ok::<_, Fault>((heads, page_of(warehouse, &asked).await?))
    };
    match found.await {
        Ok((heads, lines)) => listed(&visitor, &fields, &heads, &lines),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

fn kind_words(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Push => ("Nhận lô", "Batch taken"),
        Kind::Refuse => ("Từ chối", "Refused"),
        Kind::Contract => ("Hợp đồng", "Contract"),
        Kind::Category => ("Danh mục", "Category list"),
        Kind::Proof => ("Đối chiếu", "Comparison"),
        Kind::Restore => ("Khôi phục", "Restore"),
        Kind::Identity => ("Định danh", "Identity"),
        Kind::Backup => ("Sao lưu", "Backup"),
        Kind::Read => ("Xem dữ liệu", "Rows read"),
        Kind::Export => ("Kết xuất dữ liệu", "Rows exported"),
        Kind::Destroy => ("Hủy dữ liệu", "Destruction"),
        Kind::Disclose => ("Trích nhật ký", "Log given out"),
        Kind::Operator => ("Người dùng", "Person"),
    }
}

/// Kinds to choose from, in the order they are shown.
const KINDS: [Kind; 13] = [
    Kind::Push,
    Kind::Refuse,
    Kind::Proof,
    Kind::Contract,
    Kind::Category,
    Kind::Identity,
    Kind::Operator,
    Kind::Read,
    Kind::Export,
    Kind::Disclose,
    Kind::Destroy,
    Kind::Backup,
    Kind::Restore,
];

fn stage(lang: Lang, stage: Stage) -> Markup {
    let (class, vi, en) = match stage {
        Stage::Committed => ("wait", "chờ số", "unnumbered"),
        Stage::Numbered => ("wait", "chờ công bố", "unpublished"),
        Stage::Pending => ("wait", "chờ nhân chứng", "pending"),
        Stage::Proven => ("good", "đã chứng minh", "proven"),
    };
    html! { span class={ "tag " (class) } { (lang.say(vi, en)) } }
}

/// Who, and in a few words what.
fn told(lang: Lang, entry: &Entry) -> Markup {
    let header: Option<Header> =
        entry.header.as_ref().and_then(|text| serde_json::from_str(text).ok());
    let denied = entry.deed.as_ref().and_then(|deed| deed.denied);
    html! {
        @if let Some(dataset) = &entry.dataset { code { (dataset) } " " }
        @match (entry.kind, &header, &entry.deed) {
            (Kind::Push, Some(header), _) => {
                (count(header.counts.total())) (lang.say(" thay đổi dòng", " row changes"))
            }
            (_, _, Some(deed)) => {
                (lang.of_pair(action_words(deed.action)))
                @if let Some(on) = &deed.on { " → " (on) }
            }
            _ => {}
        }
        @if let Some(step) = &entry.identity { (lang.of_pair(step_words(step.act))) }
        @if let Some(act) = &entry.act { (act_words(lang, act)) }
        @if let Some(code) = entry.refused { " " span.tag.bad { (code.name()) } }
        @if let Some(why) = denied { " " span.tag.bad { (lang.of_pair(denied_words(why))) } }
    }
}

fn step_words(act: IdentityAct) -> (&'static str, &'static str) {
    match act {
        IdentityAct::Invited => ("Cấp mã đăng ký", "One-time code made"),
        IdentityAct::Asked => ("Đã dùng mã, chờ duyệt", "Code used, waits for approval"),
        IdentityAct::Approved => ("Người thứ hai duyệt", "Second person approved"),
        IdentityAct::Declined => ("Người thứ hai từ chối", "Second person refused"),
        IdentityAct::Enrolled => ("Cấp chứng thư đầu tiên", "First certificate issued"),
        IdentityAct::Renewed => ("Cấp chứng thư kế tiếp", "Certificate renewed"),
        IdentityAct::Recovered => ("Cấp lại sau khi hết hạn", "Issued again after expiry"),
        IdentityAct::Suspended => ("Đình chỉ", "Suspended"),
        IdentityAct::ResumeAsked => ("Đề nghị mở lại", "Asked to be resumed"),
        IdentityAct::Resumed => ("Mở lại", "Resumed"),
        IdentityAct::Revoked => ("Thu hồi", "Revoked"),
        IdentityAct::Locked => ("Khóa: hai nơi cùng dùng", "Locked: used in two places"),
    }
}

/// What was done with rows or backups, in figures.
fn act_words(lang: Lang, act: &Act) -> Markup {
    let rows = |rows: u64| html! { (count(rows)) (lang.say(" dòng", " rows")) };
    match act {
        Act::Backup(backup) => {
            let words = match backup.step {
                BackupStep::Made => ("đã tạo", "made"),
                BackupStep::Drilled => ("đã thử khôi phục", "tried out"),
                BackupStep::Restored => ("đã khôi phục từ", "restored from"),
            };
            html! {
                (backup.name) " " (lang.of_pair(words))
                @if let Some(code) = backup.failed { " " span.tag.bad { (code.name()) } }
            }
        }
        Act::Read(read) | Act::Export(read) => {
            html! { (rows(read.rows)) " · " code { (read.purpose) } }
        }
        Act::Destroy(gone) => rows(gone.rows.saturating_add(gone.versions)),
    }
}

fn action_words(action: Action) -> (&'static str, &'static str) {
    match action {
        Action::Login => ("Đăng nhập", "Sign in"),
        Action::Logout => ("Kết thúc phiên", "End a session"),
        Action::Activate => ("Nhận tài khoản", "Take an invitation"),
        Action::AccountCreate => ("Lập tài khoản", "Make an account"),
        Action::AccountLock => ("Khóa tài khoản", "Lock an account"),
        Action::AccountUnlock => ("Mở khóa tài khoản", "Unlock an account"),
        Action::AccountReset => ("Mời lại", "Invite anew"),
        Action::AccountKill => ("Chấm dứt mọi phiên", "End all sessions"),
        Action::AccountLost => ("Báo mất tài khoản", "Report the account lost"),
        Action::LogExport => ("Kết xuất nhật ký", "Export the log"),
        Action::Minutes => ("Lập biên bản", "Make minutes"),
        Action::Decide => ("Quyết định tại máy chủ", "Decide at the console"),
        Action::FleetPause => ("Tạm dừng gửi", "Pause deliveries"),
        Action::FleetResume => ("Rút lại yêu cầu", "Take an order back"),
        Action::FleetReread => ("Yêu cầu đọc lại", "Ask to read again"),
        Action::FleetCompare => ("Yêu cầu đối chiếu", "Ask to compare"),
        Action::FleetRotate => ("Yêu cầu đổi chứng thư", "Ask to renew the certificate"),
        Action::FleetDiagnose => ("Yêu cầu thông tin chẩn đoán", "Ask for diagnostics"),
        Action::FleetCheckUpdate => ("Yêu cầu kiểm tra cập nhật", "Ask to look for an update"),
        Action::ReleasePublish => ("Phát hành chương trình", "Publish a release"),
        Action::RolloutStart => ("Bắt đầu đợt cập nhật", "Start a rollout"),
        Action::RolloutPause => ("Tạm dừng đợt cập nhật", "Pause a rollout"),
        Action::RolloutResume => ("Tiếp tục đợt cập nhật", "Resume a rollout"),
        Action::RolloutPromote => ("Mở rộng đợt cập nhật", "Promote a rollout"),
        Action::RolloutRevert => ("Lùi đợt cập nhật", "Revert a rollout"),
        Action::RolloutHalt => ("Chặn đợt cập nhật", "Halt a rollout"),
        Action::IncidentClose => ("Đóng sự cố", "Close an incident"),
        Action::IncidentExport => ("Kết xuất sự cố", "Export incidents"),
        Action::ContactSet => ("Ghi đầu mối", "Write down a contact"),
        Action::NoticeCreate => ("Báo bảo trì", "Announce maintenance"),
        Action::NoticeWithdraw => ("Rút thông báo bảo trì", "Withdraw an announcement"),
    }
}

fn denied_words(why: Denied) -> (&'static str, &'static str) {
    match why {
        Denied::Credentials => ("sai thông tin", "wrong credentials"),
        Denied::RateLimit => ("thử quá nhiều lần", "too many tries"),
        Denied::Right => ("không đủ quyền", "no right"),
    }
}

fn who(entry: &Entry) -> String {
    let agent = entry.agent.as_ref().map(ToString::to_string);
    let by = entry.by().map(ToOwned::to_owned);
    match (agent, by) {
        (Some(agent), Some(by)) => format!("{agent} · {by}"),
        (one, other) => one.or(other).unwrap_or_else(|| "–".to_owned()),
    }
}

fn listed(visitor: &Visitor, fields: &Fields, heads: &Heads, lines: &[Listed]) -> Response {
    let lang = visitor.lang;
    let title = lang.say("Nhật ký truyền nhận", "Transfer log");
    let proven = heads.proven.as_ref().map_or(0, |head| head.head.size);
    let published = heads.published.as_ref().map_or(0, |head| head.head.size);
    let older = lines.last().filter(|_| i64::try_from(lines.len()).is_ok_and(|n| n == LINES));
    let keep = |before: &str| {
        let pairs = ["kind", "dataset", "agency"].map(|name| (name, fields.get(name)));
        format!("/transfers?{}", query(&[pairs.as_slice(), &[("before", before)]].concat()))
    };
    let content = html! {
        h1 { (title) }
        (filter(visitor, fields))
        p.quiet {
            (lang.say("Đã công bố ", "Published ")) b { (count(published)) }
            (lang.say(" mục, đã chứng minh ", " entries, proven ")) b { (count(proven)) } "."
        }
        @if lines.is_empty() {
            p { (lang.say("Không có mục nào.", "There is no entry.")) }
        } @else {
            div.scroll { table.stack {
                thead { tr {
                    th.n scope="col" { (lang.say("Mục", "Entry")) }
                    th scope="col" { (lang.say("Lúc", "When")) }
                    th scope="col" { (lang.say("Loại", "Kind")) }
                    th scope="col" { (lang.say("Ai", "Who")) }
                    th scope="col" { (lang.say("Nội dung", "What")) }
                    th scope="col" { (lang.say("Bằng chứng", "Proof")) }
                } }
                tbody { @for line in lines { tr {
                    td.n { @match line.number {
                        Some(number) => a href={ "/transfers/" (number) } { (count(number)) },
                        None => "–",
                    } }
                    td.t { (line.entry.committed_at.vietnamese()) }
                    td { (lang.of_pair(kind_words(line.entry.kind))) }
                    td { (who(&line.entry)) }
                    td { (told(lang, &line.entry)) }
                    td { (stage(lang, heads.stage(line.number))) }
                } } }
            } }
        }
        p.pages {
            @if fields.given("before").is_some() {
                a href=(keep("")) { (lang.say("← Mới nhất", "← Newest")) }
            } @else { span {} }
            @if let Some(line) = older {
                a href=(keep(&line.transfer.to_string())) { (lang.say("Cũ hơn →", "Older →")) }
            }
        }
    };
    frame::page(visitor, title, &content)
}

fn filter(visitor: &Visitor, fields: &Fields) -> Markup {
    let lang = visitor.lang;
    html! {
        form.filter method="get" action="/transfers" {
            div {
                label for="kind" { (lang.say("Loại", "Kind")) }
                select id="kind" name="kind" {
                    option value="" { (lang.say("tất cả", "all")) }
                    @for kind in KINDS {
                        option value=(kind_name(kind)) selected[kind_name(kind) == fields.get("kind")] {
                            (lang.of_pair(kind_words(kind)))
                        }
                    }
                }
            }
            div {
                label for="dataset" { (lang.say("Bộ dữ liệu", "Dataset")) }
                input id="dataset" name="dataset" value=(fields.get("dataset"))
                    placeholder="cong_dan.citizens" maxlength="80";
            }
            @if readable(&visitor.actor) == Readable::All {
                div {
                    label for="agency" { (lang.say("Cơ quan", "Agency")) }
                    input id="agency" name="agency" value=(fields.get("agency")) placeholder="H57.12"
                        maxlength="40";
                }
            }
            div { button { (lang.say("Lọc", "Filter")) } }
        }
    }
}

/// An entry that this visitor may read; to others it is not there.
async fn readable_entry(portal: &Portal, visitor: &Visitor, number: u64) -> Result<Found, Fault> {
    let found = find(&portal.people.warehouse, Which::Number(number)).await?;
    let agency = found.entry.agent.as_ref().map(|agent| agent.agency().as_str());
    let own = sees(visitor, agency);
    let missing = || Fault::new(Code::LogEntryMissing, format!("entry {number}"));
    own.then_some(found).ok_or_else(missing)
}

/// `GET /transfers/{number}`.
pub(super) async fn one(
    State(portal): State<Portal>,
    Path(number): Path<u64>,
    visitor: Visitor,
) -> Response {
    let found = async {
        let heads = Heads::read(&portal.people.warehouse, &portal.folder).await?;
        Ok::<_, Fault>((heads, readable_entry(&portal, &visitor, number).await?))
    };
    match found.await {
        Ok((heads, found)) => shown(&visitor, number, &heads, &found),
        Err(fault) => failed(visitor.lang, &fault),
    }
}

fn shown(visitor: &Visitor, number: u64, heads: &Heads, found: &Found) -> Response {
    let (lang, entry) = (visitor.lang, &found.entry);
    let title = format!("{} {}", lang.say("Mục", "Entry"), count(number));
    let pretty = serde_json::to_string_pretty(entry).unwrap_or_default();
    let is_published = heads.best(number).is_some();
    let content = html! {
        div.head { h1 { (title) } (stage(lang, heads.stage(found.number))) }
        div.card {
            table.facts {
                (fact(lang.say("Loại", "Kind"), lang.of_pair(kind_words(entry.kind))))
                (fact(lang.say("Ai", "Who"), &who(entry)))
                tr { th scope="row" { (lang.say("Nội dung", "What")) } td { (told(lang, entry)) } }
                (fact(lang.say("Đến lúc", "Arrived"), &entry.received_at.vietnamese()))
                (fact(lang.say("Ghi lúc", "Committed"), &entry.committed_at.vietnamese()))
                (fact(lang.say("Lần truyền", "Transfer"), &count(entry.transfer)))
            }
        }
        @if is_published {
            p { a.button href={ "/transfers/" (number) "/proof" } { (lang.say("Tải bằng chứng", "Download the proof")) }
                " " span.quiet { (lang.say("Kiểm chứng được bằng sigsum-verify, không cần trung tâm.",
                    "Verifies with sigsum-verify, without the hub.")) } }
        }
        h2 { (lang.say("Mục như đã ghi", "The entry as it stands")) }
        pre { (pretty) }
        p { a href="/transfers" { (lang.say("Về nhật ký", "To the log")) } }
    };
    frame::page(visitor, &title, &content)
}

/// `GET /transfers/{number}/proof`: Sigsum's form.
pub(super) async fn proof(
    State(portal): State<Portal>,
    Path(number): Path<u64>,
    visitor: Visitor,
) -> Response {
    match evidence(&portal, &visitor, number).await {
        Ok(text) => {
            let name = format!("attachment; filename=\"entry-{number}.proof\"");
            let kind = "text/plain; charset=utf-8".to_owned();
            let head = [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)];
            (StatusCode::OK, head, text).into_response()
        }
        Err(fault) => failed(visitor.lang, &fault),
    }
}

async fn evidence(portal: &Portal, visitor: &Visitor, number: u64) -> Result<String, Fault> {
    readable_entry(portal, visitor, number).await?;
    let heads = Heads::read(&portal.people.warehouse, &portal.folder).await?;
    let unpublished = || Fault::new(Code::HubBusy, "no checkpoint holds this entry yet");
    let checkpoint = heads.best(number).ok_or_else(unpublished)?.clone();
    let register = std::sync::Arc::clone(&portal.register.borrow());
    let known = policy(portal.policy.as_ref(), portal.folder.log(), &register);
    let folder = portal.folder.clone();
    let proof = blocking(move || prove(&folder, number, &checkpoint, &known)).await?;
    Ok(proof.to_text())
}
