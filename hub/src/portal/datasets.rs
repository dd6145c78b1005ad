//! Datasets for people: how fresh each is against its contract, and how it flowed, with the log's entries
//! behind each figure.

mod chart;

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use phusa_protocol::fault::Fault;
use phusa_protocol::ids::DatasetId;
use phusa_protocol::time::Timestamp;
use phusa_protocol::verdict::{State as Condition, Verdict};

use super::deciding::sees;
use super::fleet::{seen, span_of, tag, whom, why};
use super::form::{Fields, query};
use super::guard::{Visitor, failed};
use super::own::fact;
use super::record::reads;
use super::words::Lang;
use super::{Portal, frame};
use crate::catalog::Agreed;
use crate::fleet::flow::{self, Flow, Hour};
use crate::fleet::health::Health;
use crate::fleet::proofs::{self, Proven};
use crate::transfers::minutes::page::count;

/// Agents of a dataset that are shown at once, each with its charts.
const SENDERS: usize = 10;

/// `GET /datasets`.
pub(super) async fn list(State(portal): State<Portal>, visitor: Visitor) -> Response {
    let found = async {
        let agents = seen(&portal, &visitor).await?;
        let client = portal.people.warehouse.client().await?;
        Ok::<_, Fault>((agents, proofs::last(&client).await?))
    };
    let (agents, proven) = match found.await {
        Ok(found) => found,
        Err(fault) => return failed(visitor.lang, &fault),
    };
    let lang = visitor.lang;
    let title = lang.say("Bộ dữ liệu", "Datasets");
    let contracts = portal.catalog.current();
    let mut own: Vec<_> = contracts
        .iter()
        .filter(|agreed| sees(&visitor, Some(agreed.contract.owner.as_str())))
        .map(|agreed| (agreed, senders(&agents, &agreed.contract.dataset)))
        .collect();
    let worst = |senders: &[Sender<'_>]| senders.iter().map(|one| one.verdict.state).max();
    own.sort_by_key(|(agreed, senders)| {
        (std::cmp::Reverse(worst(senders)), agreed.contract.dataset.clone())
    });
    let content = html! {
        h1 { (title) }
        @if own.is_empty() {
            p { (lang.say("Chưa có hợp đồng nào có hiệu lực.", "No contract is in force yet.")) }
        } @else {
            div.scroll { table.stack.datasets {
                thead { tr {
                    th scope="col" { (lang.say("Trạng thái", "State")) }
                    th scope="col" { (lang.say("Bộ dữ liệu", "Dataset")) }
                    th scope="col" { (lang.say("Cơ quan", "Agency")) }
                    th scope="col" { (lang.say("Đến lần cuối", "Last arrival")) }
                    th.n scope="col" { (lang.say("Tần suất", "Frequency")) }
                    th scope="col" { (lang.say("Giống nguồn", "Equal to its source")) }
                } }
                tbody { @for (agreed, senders) in &own {
                    (line(lang, agreed, senders, proof_of(&proven, agreed)))
                } }
            } }
        }
    };
    frame::page(&visitor, title, &content)
}

/// An agent that delivers a dataset, with what is said of that.
struct Sender<'a> {
    one: &'a Health,
    verdict: &'a Verdict,
    arrived: Option<Timestamp>,
    rows: i64,
}

/// How a dataset flowed from one of its agents: of late, and by hour over a day.
type Day = (Flow, Vec<Hour>);

fn senders<'a>(agents: &'a [Health], dataset: &DatasetId) -> Vec<Sender<'a>> {
    let name = dataset.to_string();
    let of = |one: &'a Health| {
        let stream = one.row.streams.iter().find(|stream| stream.dataset == name);
        let told = one.report.as_ref().and_then(|report| {
            let place = report.datasets.iter().position(|told| told.dataset == *dataset)?;
            one.datasets.get(place)
        });
        if stream.is_none() && told.is_none() {
            return None;
        }
        // What an agent said last of a dataset is old while nothing is heard of it.
        let stands = one.verdict.state >= Condition::Suspended;
        let verdict = told.filter(|_| !stands).unwrap_or(&one.verdict);
        let arrived = stream.and_then(|stream| stream.last_committed_at);
        Some(Sender { one, verdict, arrived, rows: stream.map_or(0, |stream| stream.rows) })
    };
    agents.iter().filter_map(of).collect()
}

fn proof_of<'a>(proven: &'a [Proven], agreed: &Agreed) -> Option<&'a Proven> {
    let name = agreed.contract.dataset.to_string();
    proven.iter().find(|one| one.dataset == name)
}

fn line(lang: Lang, agreed: &Agreed, senders: &[Sender<'_>], proven: Option<&Proven>) -> Markup {
    let contract = &agreed.contract;
    let worst = senders.iter().max_by_key(|one| one.verdict.state);
    let arrived = senders.iter().filter_map(|one| one.arrived).max();
    html! { tr {
        td { @match worst {
            Some(worst) => (tag(lang, worst.verdict.state)),
            None => { span.tag { (lang.say("Chưa có tác tử", "No agent yet")) } }
        } }
        td { a href={ "/datasets/" (contract.dataset) } { b { (contract.title_vi) } }
            br; code { (contract.dataset) } }
        td { (contract.owner) }
        td.t { (arrived.map_or("–".to_owned(), Timestamp::vietnamese)) }
        td.n { (contract.frequency) }
        td { (proof(lang, proven)) }
    } }
}

fn proof(lang: Lang, proven: Option<&Proven>) -> Markup {
    html! {
        @match proven.and_then(|one| one.compared_at.map(|at| (one, at))) {
            None => { span.tag { (lang.say("chưa đối chiếu", "never compared")) } }
            Some((one, at)) => {
                @if one.identical { span.tag.good { (lang.say("giống hệt", "identical")) } }
                @else if one.differing == 0 { span.tag { (lang.say("đang thay đổi", "changing")) } }
                @else { span.tag.bad { (count(one.differing.unsigned_abs())) (lang.say(" bản ghi khác", " differ")) } }
                " " span.quiet { (at.vietnamese_minute()) }
            }
        }
    }
}

/// `GET /datasets/{dataset}`.
pub(super) async fn one(
    State(portal): State<Portal>,
    Path(dataset): Path<String>,
    RawQuery(asked): RawQuery,
    visitor: Visitor,
) -> Response {
    let from: usize = Fields::of_query(asked.as_deref()).get("from").parse().unwrap_or(0);
    let contracts = portal.catalog.current();
    let agreed = DatasetId::new(dataset).ok().and_then(|id| contracts.get(&id));
    let agreed = agreed.filter(|agreed| sees(&visitor, Some(agreed.contract.owner.as_str())));
    let Some(agreed) = agreed else {
        let text = visitor.lang.say("Không có bộ dữ liệu này.", "There is no such dataset.");
        return frame::message(visitor.lang, StatusCode::NOT_FOUND, text);
    };
    let found = async {
        let agents = seen(&portal, &visitor).await?;
        let client = portal.people.warehouse.client().await?;
        let proven = proofs::last(&client).await?;
        let (mut flows, name) = (Vec::new(), agreed.contract.dataset.to_string());
        for sender in
            worst_first(senders(&agents, &agreed.contract.dataset)).iter().skip(from).take(SENDERS)
        {
            let stream = (sender.one.row.agent.as_str(), name.as_str());
            let now = Timestamp::now();
            let flow = flow::of(&client, stream, now).await?;
            flows.push((flow, flow::of_day(&client, stream, now).await?));
        }
        Ok::<_, Fault>((agents, proven, flows))
    };
    match found.await {
        Ok((agents, proven, flows)) => {
            let senders = worst_first(senders(&agents, &agreed.contract.dataset));
            page(&visitor, agreed, (&senders, from, &flows), proof_of(&proven, agreed))
        }
        Err(fault) => failed(visitor.lang, &fault),
    }
}

fn page(
    visitor: &Visitor,
    agreed: &Agreed,
    (senders, from, flows): (&[Sender<'_>], usize, &[Day]),
    proven: Option<&Proven>,
) -> Response {
    let (lang, contract) = (visitor.lang, &agreed.contract);
    let name = contract.dataset.to_string();
    let dataset = name.as_str();
    let content = html! {
        p { a href="/datasets" { "← " (lang.say("Bộ dữ liệu", "Datasets")) } }
        div.head { h1 { (contract.title_vi) } code { (dataset) } }
        div.card { table.facts {
            (fact(lang.say("Cơ quan chủ quản", "Owner"), contract.owner.as_str()))
            (fact(lang.say("Căn cứ pháp lý", "Legal basis"), &contract.legal_basis))
            (fact(lang.say("Phiên bản hợp đồng", "Version of the contract"), &contract.version.to_string()))
            (fact(lang.say("Tần suất đã thỏa thuận", "Frequency agreed"), &contract.frequency.to_string()))
            tr { th scope="row" { (lang.say("Đối chiếu với nguồn", "Compared with its source")) }
                td { (proof(lang, proven)) } }
        } }
        @if senders.is_empty() {
            p.notice { (lang.say("Chưa có tác tử nào gửi bộ dữ liệu này.", "No agent delivers this dataset yet.")) }
        }
        @if senders.len() > SENDERS { (states(lang, senders)) }
        @for (sender, (flow, hours)) in senders.iter().skip(from).zip(flows) { (stream(lang, sender, (flow, hours))) }
        @if senders.len() > SENDERS { (places(lang, dataset, (from, flows.len(), senders.len()))) }
        @if reads(visitor, agreed) {
            p { a.button href={ "/datasets/" (dataset) "/record" } { (lang.say("Lịch sử của một bản ghi", "History of a record")) } }
        }
        p { a href={ "/transfers?" (query(&[("dataset", dataset), ("kind", "push")])) } {
            (lang.say("Các lần nhận lô trong nhật ký", "Its batches in the log")) } " · "
            a href={ "/transfers?" (query(&[("dataset", dataset), ("kind", "refuse")])) } {
            (lang.say("Các lần bị từ chối", "What was refused")) } " · "
            a href={ "/transfers?" (query(&[("dataset", dataset), ("kind", "proof")])) } {
            (lang.say("Các lần đối chiếu", "Its comparisons")) } }
    };
    frame::page(visitor, &contract.title_vi, &content)
}

/// The worst first; the order of agents decides among equals.
fn worst_first(mut senders: Vec<Sender<'_>>) -> Vec<Sender<'_>> {
    senders.sort_by_key(|one| std::cmp::Reverse(one.verdict.state));
    senders
}

/// How many of those who deliver are in which state.
fn states(lang: Lang, senders: &[Sender<'_>]) -> Markup {
    let of = |state| senders.iter().filter(|one| one.verdict.state == state).count();
    html! { p {
        (senders.len()) (lang.say(" tác tử gửi bộ dữ liệu này, nặng nhất trước: ", " agents deliver this dataset, the worst first: "))
        @for state in Condition::ALL.into_iter().rev() {
            @let count = of(state);
            @if count > 0 { (tag(lang, state)) " " (count) " " }
        }
    } }
}

/// Where in the list this page stands, and the ways to its neighbours.
fn places(lang: Lang, dataset: &str, (from, shown, all): (usize, usize, usize)) -> Markup {
    let to = |from: usize| format!("/datasets/{dataset}?{}", query(&[("from", &from.to_string())]));
    let last = from.saturating_add(shown);
    html! { p.pages {
        @if from > 0 {
            a href=(to(from.saturating_sub(SENDERS))) { (lang.say("← Nặng hơn", "← Worse")) }
        } @else { span {} }
        span { @if shown > 0 { (from + 1) "–" (last) " / " (all) } }
        @if last < all { a href=(to(last)) { (lang.say("Tiếp theo →", "Next →")) } } @else { span {} }
    } }
}

fn stream(lang: Lang, sender: &Sender<'_>, (flow, hours): (&Flow, &[Hour])) -> Markup {
    let (one, verdict) = (sender.one, sender.verdict);
    let is_well = verdict.state < Condition::Attention;
    let now = Timestamp::now();
    html! {
        h2.agent { (tag(lang, verdict.state)) " "
            a href={ "/fleet/" (one.agency()) } { (one.row.agent) } }
        div.card {
            div.why { (why(lang, verdict, !is_well)) }
            @if !is_well { p { (lang.say("Đầu mối: ", "Focal point: ")) (whom(lang, one.contact.as_ref(), true)) } }
            table.facts {
                @if let Some(at) = sender.arrived {
                    (fact(lang.say("Đến lần cuối", "Last arrival"), &format!("{} ({})", at.vietnamese(), span_of(lang, now, at))))
                }
                (lags(lang, flow))
                (today(lang, flow))
                (fact(lang.say("Dòng đã nhận từ đầu", "Row changes in all"), &count(sender.rows.unsigned_abs())))
                @for (rule, rows) in &flow.broken {
                    tr { th scope="row" { (lang.say("Vi phạm quy tắc ", "Broke rule ")) code { (rule) } }
                        td { (count(*rows)) } }
                }
            }
            (chart::day(lang, hours, now))
        }
    }
}

/// From commit at the source to commit here, of the newest batches.
fn lags(lang: Lang, flow: &Flow) -> Markup {
    html! {
        @if let Some([half, most, all]) = flow.lag_ms {
            tr {
                th scope="row" { (lang.say("Trễ nguồn → kho", "Lag, source → warehouse")) }
                td { "p50 " b { (milliseconds(half)) } " · p95 " b { (milliseconds(most)) }
                    " · " (lang.say("lớn nhất ", "longest ")) b { (milliseconds(all)) } " "
                    span.quiet { "(" (count(u64::try_from(flow.batches).unwrap_or(0)))
                        (lang.say(" lô mới nhất)", " newest batches)")) } }
            }
        }
    }
}

fn today(lang: Lang, flow: &Flow) -> Markup {
    html! { tr {
        th scope="row" { (lang.say("Thay đổi dòng hôm nay", "Row changes today")) }
        td { @if !flow.is_whole_day { "≥ " } (count(flow.today)) }
    } }
}

fn milliseconds(span: u64) -> String {
    match span {
        0..1_000 => format!("{span} ms"),
        1_000..60_000 => format!("{},{} s", span / 1_000, span % 1_000 / 100),
        _ => format!("{} min", count(span / 60_000)),
    }
}
