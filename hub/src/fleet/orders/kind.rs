//! The kinds of orders, with their names and words.

use phusa_protocol::deed::Action;
use phusa_protocol::orders::Want;

/// What may be wanted of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Deliver nothing of a dataset.
    Pause,
    /// Read a dataset again from the beginning.
    Reread,
    /// Compare a dataset with the warehouse.
    Compare,
    /// Renew the certificate with a new key.
    Rotate,
    /// Say what may be wrong.
    Diagnose,
    /// Look for another program.
    CheckUpdate,
}

impl Kind {
    /// All of them, in the order they are offered in.
    pub const ALL: [Self; 6] =
        [Self::Pause, Self::Reread, Self::Compare, Self::Rotate, Self::Diagnose, Self::CheckUpdate];

    /// Its name in the database and in forms.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Reread => "reread",
            Self::Compare => "compare",
            Self::Rotate => "rotate",
            Self::Diagnose => "diagnose",
            Self::CheckUpdate => "check_update",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// In Vietnamese and English.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Pause => ("Tạm dừng gửi", "Pause deliveries"),
            Self::Reread => ("Đọc lại từ đầu", "Read again"),
            Self::Compare => ("Đối chiếu với kho", "Compare with the warehouse"),
            Self::Rotate => ("Đổi chứng thư", "Renew the certificate"),
            Self::Diagnose => ("Lấy thông tin chẩn đoán", "Collect diagnostics"),
            Self::CheckUpdate => ("Kiểm tra cập nhật", "Look for an update"),
        }
    }

    /// What comes of it, in Vietnamese and English.
    #[must_use]
    pub fn consequence(self) -> (&'static str, &'static str) {
        match self {
            Self::Pause => (
                "Các bộ dữ liệu này ngừng được gửi về kho. Tác tử vẫn đọc vào hàng đợi; hàng đợi đầy thì ngừng đọc, không mất gì. Tự hết khi tới hạn.",
                "These datasets are delivered no longer. The agents read on into their spools, and stop where those are full; nothing is lost. It is over by itself at its deadline.",
            ),
            Self::Reread => (
                "Mỗi bộ dữ liệu được đọc lại toàn bộ từ nguồn: tải thêm cho cơ sở dữ liệu của cơ quan và đường truyền. Bản ghi không còn ở nguồn bị xóa khỏi kho, lịch sử được giữ.",
                "Each dataset is read again from its source as a whole: load for the agency's database and the line. Records that are no longer there leave the warehouse; their history stays.",
            ),
            Self::Compare => (
                "Mỗi bộ dữ liệu được đọc hết một lần tại cơ quan, trong giờ cơ quan cho phép, và so với kho bằng mã băm; kết quả là một dòng của nhật ký truyền nhận. Bản ghi không rời cơ quan vì việc này.",
                "Each dataset is read once at its agency, within the agency's own hours, and compared with the warehouse by digests; the result is an entry of the log. No record leaves the agency for it.",
            ),
            Self::Rotate => (
                "Mỗi tác tử lập khóa mới và xin chứng thư mới ngay; chứng thư cũ thôi dùng cho việc gửi. Việc gửi không bị ngắt.",
                "Each agent makes a new key and asks for a certificate now; it delivers with the new one from then on. Deliveries are not interrupted.",
            ),
            Self::Diagnose => (
                "Mỗi tác tử gửi phiên bản, các thông số cấu hình bằng số, lỗi gần đây và tình trạng của nó. Không có bản ghi, tên, địa chỉ hay mật khẩu nào.",
                "Each agent tells its version, the numbers of its settings, its faults of late and its state. No record, name, address or password is in it.",
            ),
            Self::CheckUpdate => (
                "Mỗi tác tử hỏi ngay trung tâm giao cho nó chương trình nào, thay vì chờ tới lần hỏi sau. Giờ cập nhật và sự đồng ý của cơ quan vẫn giữ nguyên.",
                "Each agent asks now which program the hub assigns to it, rather than at its next look. The agency's hours and its consent stand.",
            ),
        }
    }

    /// What the transfer log calls it.
    #[must_use]
    pub fn action(self) -> Action {
        match self {
            Self::Pause => Action::FleetPause,
            Self::Reread => Action::FleetReread,
            Self::Compare => Action::FleetCompare,
            Self::Rotate => Action::FleetRotate,
            Self::Diagnose => Action::FleetDiagnose,
            Self::CheckUpdate => Action::FleetCheckUpdate,
        }
    }

    /// As the agent is told, of a stream that was in this epoch.
    #[must_use]
    pub fn want(self, epoch: u64) -> Want {
        match self {
            Self::Pause => Want::Pause,
            Self::Reread => Want::Reread { beyond: epoch },
            Self::Compare => Want::Compare,
            Self::Rotate => Want::Rotate,
            Self::Diagnose => Want::Diagnose,
            Self::CheckUpdate => Want::CheckUpdate,
        }
    }

    /// Whether it is of one dataset, rather than of an agent.
    #[must_use]
    pub fn is_of_dataset(self) -> bool {
        self.want(0).is_of_dataset()
    }

    /// Whether the agent does it once and tells of it: what programs before 0.2 do not know.
    #[must_use]
    pub fn is_once(self) -> bool {
        self.want(0).is_once()
    }
}
