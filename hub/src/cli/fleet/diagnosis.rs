//! What an agent said when it was asked what may be wrong with it, for `fleet show`.

use phusa_protocol::fault::Code;

use crate::fleet::orders::Diagnosed;

/// In lines.
pub(super) fn lines(told: &Diagnosed) -> Vec<String> {
    let Some(diagnosis) = &told.report.diagnosis else { return Vec::new() };
    let at = told.told_at.vietnamese();
    let memory = diagnosis.memory_kib.map_or("–".to_owned(), |kib| format!("{kib} KiB"));
    let mut lines = vec![format!(
        "  chẩn đoán (diagnosis) {at}: {}; {} CPU; bộ nhớ (memory) {memory}; phiên bản (version) {}",
        diagnosis.platform, diagnosis.processors, told.report.version
    )];
    if diagnosis.faults.is_empty() {
        lines.push("    không có lỗi từ khi khởi động (no fault since it was started)".to_owned());
    }
    for fault in &diagnosis.faults {
        let words = Code::named(&fault.code).map(Code::words);
        let words = words.map(|words| format!(" – {}", words.meaning_vi)).unwrap_or_default();
        let (count, last) = (fault.count, fault.last.vietnamese());
        lines.push(format!("    {} × {count}, lần cuối (last) {last}{words}", fault.code));
    }
    lines.extend(diagnosis.settings.iter().map(|one| format!("    {} = {}", one.key, one.value)));
    lines
}
