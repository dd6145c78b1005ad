//! Names, streets, notes and codes that rows are put together from, some with their weights.

pub(super) const SURNAMES: &[(u64, &str)] = &[
    (38, "Nguyễn"),
    (11, "Trần"),
    (10, "Lê"),
    (7, "Phạm"),
    (5, "Huỳnh"),
    (5, "Hoàng"),
    (4, "Phan"),
    (4, "Vũ"),
    (4, "Võ"),
    (2, "Đặng"),
    (2, "Bùi"),
    (2, "Đỗ"),
    (1, "Hồ"),
    (1, "Ngô"),
    (1, "Dương"),
    (1, "Lý"),
    (1, "Nông"),
    (1, "Hà"),
    (1, "Đinh"),
    (1, "Trịnh"),
    (1, "Mai"),
    (1, "Lâm"),
    (1, "Thạch"),
    (1, "Châu"),
];
pub(super) const MIDDLE_M: &[&str] = &[
    "Văn", "Hữu", "Đức", "Công", "Quang", "Minh", "Thanh", "Quốc", "Đình", "Xuân", "Hoàng", "Ngọc",
];
pub(super) const MIDDLE_F: &[&str] = &[
    "Thị",
    "Thị Ngọc",
    "Thị Thu",
    "Thị Kim",
    "Ngọc",
    "Thanh",
    "Mỹ",
    "Thùy",
    "Phương",
    "Diệu",
    "Hồng",
    "Thị Bích",
];
pub(super) const GIVEN_M: &[&str] = &[
    "Hùng", "Dũng", "Tuấn", "Khánh", "Phúc", "Bảo", "Long", "Thắng", "Cường", "Nghĩa", "Toàn",
    "Trí", "Đạt", "Lợi", "Khoa", "Nhân", "Kiệt", "Sang", "Thịnh", "Vinh",
];
pub(super) const GIVEN_F: &[&str] = &[
    "Hương",
    "Lan",
    "Mai",
    "Hạnh",
    "Yến",
    "Nhung",
    "Trang",
    "Thảo",
    "Vy",
    "Ngân",
    "Trúc",
    "Quỳnh",
    "Oanh",
    "Hiền",
    "Loan",
    "Diễm",
    "Tuyết",
    "Phượng",
    "Châu",
    "Xuân",
];
pub(super) const STREETS: &[&str] = &[
    "Nguyễn Trãi",
    "Trần Hưng Đạo",
    "Lê Lợi",
    "Hùng Vương",
    "30 Tháng 4",
    "Mậu Thân",
    "Cách Mạng Tháng Tám",
    "Nguyễn Văn Cừ",
    "Phan Đình Phùng",
    "Hai Bà Trưng",
    "Lý Thường Kiệt",
    "Võ Văn Kiệt",
    "Trường Chinh",
];
pub(super) const WARDS: &[&str] = &[
    "Ninh Kiều",
    "Cái Khế",
    "Tân An",
    "An Bình",
    "Thới An Đông",
    "Bình Thủy",
    "Long Tuyền",
    "Cái Răng",
    "Hưng Phú",
    "Ô Môn",
    "Thốt Nốt",
    "Vĩnh Thạnh",
    "Phong Điền",
    "Thuận Hóa",
    "Vỹ Dạ",
    "Thục Phán",
    "Trường Vinh",
    "Lý Văn Lâm",
];
pub(super) const PROVINCES: &[&str] =
    &["thành phố Cần Thơ", "tỉnh Cao Bằng", "tỉnh Cà Mau", "tỉnh Nghệ An", "thành phố Huế"];
pub(super) const NOTES: &[&str] = &[
    "Hồ sơ đã đối chiếu bản giấy, đủ chữ ký và xác nhận của Ủy ban nhân dân phường.",
    "Công dân đề nghị cập nhật nơi thường trú theo giấy xác nhận ngày gần nhất.",
    "Thông tin được đồng bộ từ hệ thống một cửa; chưa có sai lệch cần rà soát thêm.",
    "Đã xác thực định danh mức độ 2, dữ liệu khớp với cơ sở dữ liệu quốc gia về dân cư.",
    "Cần bổ sung bản sao giấy khai sinh; cán bộ tiếp nhận đã hẹn trả lời trong 5 ngày.",
    "Dữ liệu chuyển từ sổ giấy sang, kiểm tra chính tả họ tên và địa danh cũ trước 2025.",
];
pub(super) const JOBS: &[&str] = &[
    "nông dân",
    "giáo viên",
    "công nhân",
    "kỹ sư",
    "buôn bán nhỏ",
    "bác sĩ",
    "công chức",
    "học sinh",
    "hưu trí",
    "lái xe",
];
pub(super) const EDUCATION: &[&str] =
    &["Tiểu học", "Trung học cơ sở", "Trung học phổ thông", "Cao đẳng", "Đại học", "Thạc sĩ"];
pub(super) const ETHNICITY: &[(u64, &str)] = &[
    (86, "01"),
    (2, "02"),
    (2, "03"),
    (2, "04"),
    (2, "05"),
    (2, "08"),
    (2, "11"),
    (1, "20"),
    (1, "53"),
];
pub(super) const RELIGION: &[(u64, &str)] =
    &[(10, "00"), (9, "01"), (6, "02"), (1, "03"), (1, "04")];
pub(super) const BLOOD: &[(u64, &str)] =
    &[(42, "O+"), (30, "B+"), (21, "A+"), (5, "AB+"), (1, "O-"), (1, "B-")];
pub(super) const STATUS: &[&str] =
    &["TIEP_NHAN", "DANG_XU_LY", "CHO_BO_SUNG", "DA_GIAI_QUYET", "DA_TRA_KQ", "TU_CHOI"];
pub(super) const CHANNEL: &[&str] = &["truc_tuyen", "truc_tiep", "buu_chinh"];
