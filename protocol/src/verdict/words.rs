//! What is said of a verdict, Vietnamese first: the state, the reason, what to do.

use super::{Reason, State, Verdict};
use crate::fault::Code;

/// Reason and remedy of a verdict in both languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Words {
    /// Why, in Vietnamese.
    pub reason_vi: &'static str,
    /// Why, in English.
    pub reason_en: &'static str,
    /// What to do, in Vietnamese.
    pub remedy_vi: &'static str,
    /// What to do, in English.
    pub remedy_en: &'static str,
}

impl State {
    /// Its name in metrics and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Working => "working",
            Self::Unreported => "unreported",
            Self::Maintenance => "maintenance",
            Self::Attention => "attention",
            Self::Late => "late",
            Self::Faulted => "faulted",
            Self::Suspended => "suspended",
            Self::Offline => "offline",
        }
    }

    /// What it is called, Vietnamese and English.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Healthy => ("Bình thường", "Healthy"),
            Self::Working => ("Đang đọc lần đầu", "First read"),
            Self::Unreported => ("Chưa báo cáo", "Not reporting"),
            Self::Maintenance => ("Đang bảo trì", "Maintenance"),
            Self::Attention => ("Cần chú ý", "Attention"),
            Self::Late => ("Chậm", "Late"),
            Self::Faulted => ("Có lỗi", "Faulted"),
            Self::Suspended => ("Bị đình chỉ", "Suspended"),
            Self::Offline => ("Mất liên lạc", "Offline"),
        }
    }
}

impl Verdict {
    /// Reason and remedy: the fault's own where one is behind it.
    #[must_use]
    pub fn words(&self) -> Words {
        let known = self.fault.as_deref().and_then(Code::named);
        match (self.reason, known) {
            (Reason::Fault | Reason::Obstacle | Reason::Barred, Some(code)) => {
                let words = code.words();
                Words {
                    reason_vi: words.meaning_vi,
                    reason_en: words.meaning_en,
                    remedy_vi: words.remedy_vi,
                    remedy_en: words.remedy_en,
                }
            }
            (reason, _) => reason.words(),
        }
    }
}

impl Reason {
    /// What is said of it where no fault says it better.
    #[must_use]
    #[rustfmt::skip] // one reason a line, so that it reads as a table
    pub fn words(self) -> Words {
        let [reason_vi, reason_en, remedy_vi, remedy_en] = match self {
            Self::Arrives => ["Dữ liệu đến đúng hạn.", "Data arrives in time.", "Không phải làm gì.", "Nothing is to be done."],
            Self::Starting => ["Tác tử đang khởi động, chưa đọc.", "The agent starts; it has not begun to read.", "Chờ; nếu lâu, chạy `phusa-agent status` tại cơ quan.", "Wait; if it lasts, run `phusa-agent status` at the agency."],
            Self::FirstRead => ["Đang đọc toàn bộ bảng lần đầu.", "The whole table is read for the first time.", "Chờ đọc xong; tiến độ ở trang của cơ quan.", "Wait until it is read; the agency's page shows how far it is."],
            Self::NeverReported => ["Chưa có báo cáo nào; chỉ biết dữ liệu đã nhận.", "No report has ever come; what was delivered is all that is known.", "Khai báo `link_url` trong `[hub]` của agent.toml và `[link]` của hub.toml.", "Name `link_url` in `[hub]` of agent.toml, and `[link]` in hub.toml."],
            Self::ReportsSilent => ["Dữ liệu vẫn đến nhưng báo cáo không đến.", "Data comes, reports do not.", "Kiểm tra cổng liên lạc giữa tác tử và trung tâm (tường lửa, `link_url`).", "Check the link's port between agent and hub (firewall, `link_url`)."],
            Self::CertificateEnds => ["Chứng thư của tác tử sắp hết hạn.", "The agent's certificate is about to end.", "Xem `phusa-agent status`; cấp chứng thư mới bằng `phusa-hub enrol create` trước thời hạn nêu bên.", "See `phusa-agent status`; issue a new one with `phusa-hub enrol create` before the deadline beside."],
            Self::ClockDiffers => ["Đồng hồ của tác tử và trung tâm lệch hơn một phút.", "The clocks of agent and hub differ by more than a minute.", "Bật đồng bộ giờ (NTP) trên máy của cơ quan.", "Turn on time synchronisation (NTP) on the agency's machine."],
            Self::DiskLow => ["Đĩa của máy chạy tác tử sắp đầy.", "The disk of the agent's machine is nearly full.", "Giải phóng chỗ, hoặc mở rộng đĩa của `state_dir`.", "Free space, or enlarge the disk of `state_dir`."],
            Self::SpoolFills => ["Hàng đợi của tác tử sắp đầy; đầy thì ngừng đọc, không mất dữ liệu.", "The agent's spool is filling; when full it stops reading and loses nothing.", "Xem vì sao dữ liệu không gửi được; tăng `spool_bytes_max` nếu cần.", "Find out why data is not delivered; raise `spool_bytes_max` if need be."],
            Self::Paused => ["Có người đã tạm dừng.", "Somebody paused it.", "Chạy `phusa-hub fleet resume` khi đã xong việc.", "Run `phusa-hub fleet resume` when the work is done."],
            Self::Announced => ["Đang trong thời gian bảo trì đã thông báo.", "It is within a window of maintenance that was announced.", "Chờ đến hạn nêu bên; sau đó trạng thái thật hiện lại.", "Wait until the moment beside; then its own state shows again."],
            Self::Behind => ["Thay đổi chờ lâu hơn tần suất đã thỏa thuận trong hợp đồng.", "Changes wait longer than the frequency agreed in the contract.", "Kiểm tra đường truyền và tải của cơ sở dữ liệu nguồn; dữ liệu không mất.", "Check the line and the load of the source database; nothing is lost."],
            Self::NothingArrived => ["Tác tử nói đã gửi nhưng trung tâm không có.", "The agent says it delivered, and the hub holds nothing of it.", "Chạy `phusa-agent verify`; xem trung tâm có được khôi phục từ bản sao lưu không.", "Run `phusa-agent verify`; see whether the hub was restored from a backup."],
            Self::Obstacle => ["Một lỗi tạm thời kéo dài quá mức cho phép.", "A fault that should go away by itself has lasted for longer than it may.", "Xem lỗi nêu bên; tác tử vẫn tự thử lại.", "See the fault beside; the agent goes on trying."],
            Self::Fault => ["Một bộ dữ liệu đã dừng vì lỗi.", "A dataset has stopped on a fault.", "Chạy `phusa-agent status` tại cơ quan và làm theo cách xử lý.", "Run `phusa-agent status` at the agency and follow its remedy."],
            Self::Barred => ["Trung tâm không cho tác tử này vào.", "The hub does not let this agent in.", "Xem lý do bằng `phusa-hub agent show`; mở lại cần người thứ hai.", "See why with `phusa-hub agent show`; to resume takes a second person."],
            Self::Left => ["Tác tử đã được dừng tại cơ quan.", "The agent was stopped at the agency.", "Hỏi đầu mối vì sao; chạy lại bằng `systemctl start phusa-agent`.", "Ask the focal point why; start it with `systemctl start phusa-agent`."],
            Self::Lost => ["Kết nối của tác tử đứt và chưa nối lại.", "The agent's session broke off and has not come back.", "Gọi đầu mối: kiểm tra máy, dịch vụ phusa-agent và đường truyền. Dữ liệu chờ tại cơ quan, không mất.", "Call the focal point: check machine, the service phusa-agent and the line. Data waits at the agency; nothing is lost."],
            Self::Silent => ["Không nghe được gì từ tác tử.", "Nothing is heard of the agent.", "Gọi đầu mối: kiểm tra máy, dịch vụ phusa-agent và đường truyền. Dữ liệu chờ tại cơ quan, không mất.", "Call the focal point: check machine, the service phusa-agent and the line. Data waits at the agency; nothing is lost."],
        };
        Words { reason_vi, reason_en, remedy_vi, remedy_en }
    }
}
