//! The columns of citizens and dossiers: at the source, in the warehouse, and how sensitive.

/// One column at both ends.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name at the source.
    pub name: &'static str,
    /// Its type and constraints at the source.
    pub sql: &'static str,
    /// Its name in the warehouse.
    pub field: &'static str,
    /// Its contract type.
    pub kind: &'static str,
    /// Its sensitivity class.
    pub class: &'static str,
    /// Its name for people.
    pub name_vi: &'static str,
}

impl Column {
    /// Whether it is never null.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.sql.contains("not null") || self.sql.contains("primary key")
    }
}

const fn column(
    source: [&'static str; 2],
    field: &'static str,
    kind: &'static str,
    class: &'static str,
    name_vi: &'static str,
) -> Column {
    Column { name: source[0], sql: source[1], field, kind, class, name_vi }
}

/// What is known of a citizen.
pub(super) const CITIZEN: [Column; 20] = [
    column(["id", "bigint primary key"], "id", "int8", "N", "Mã bản ghi"),
    column(["national_id", "char(12) not null"], "so_dinh_danh", "text", "N", "Số định danh"),
    column(["full_name", "varchar(100) not null"], "ho_ten", "text", "B", "Họ và tên"),
    column(["dob", "date not null"], "ngay_sinh", "date", "B", "Ngày sinh"),
    column(["gender_code", "smallint not null"], "gioi_tinh", "int2", "B", "Giới tính"),
    column(["ethnicity_code", "char(2) not null"], "dan_toc", "text", "X", "Dân tộc"),
    column(["religion_code", "char(2)"], "ton_giao", "text", "X", "Tôn giáo"),
    column(["address", "text not null"], "dia_chi", "text", "B", "Địa chỉ"),
    column(["ward_code", "char(5) not null"], "ma_xa", "text", "I", "Mã xã, phường"),
    column(["household_no", "varchar(12)"], "so_ho", "text", "B", "Số hộ"),
    column(["phone", "varchar(15)"], "dien_thoai", "text", "B", "Điện thoại"),
    column(["email", "varchar(120)"], "thu_dien_tu", "text", "B", "Thư điện tử"),
    column(["blood_type", "varchar(3)"], "nhom_mau", "text", "X", "Nhóm máu"),
    column(["marital_code", "smallint not null"], "hon_nhan", "int2", "B", "Tình trạng hôn nhân"),
    column(["income", "numeric(14,2)"], "thu_nhap", "numeric", "B", "Thu nhập"),
    column(["photo_hash", "bytea"], "ma_bam_anh", "bytea", "B", "Mã băm ảnh"),
    column(["attributes", "jsonb"], "thuoc_tinh", "jsonb", "B", "Thuộc tính khác"),
    column(["notes", "text"], "ghi_chu", "text", "I", "Ghi chú"),
    column(["created_at", "timestamptz not null"], "tao_luc", "timestamptz", "I", "Tạo lúc"),
    column(["updated_at", "timestamptz not null"], "sua_luc", "timestamptz", "I", "Sửa lúc"),
];

/// What is known of a dossier.
pub(super) const DOSSIER: [Column; 15] = [
    column(["id", "bigint primary key"], "id", "int8", "N", "Mã bản ghi"),
    column(["citizen_id", "bigint not null"], "cong_dan", "int8", "N", "Mã công dân"),
    column(["procedure_code", "varchar(12) not null"], "ma_thu_tuc", "text", "P", "Mã thủ tục"),
    column(["status", "varchar(20) not null"], "trang_thai", "text", "I", "Trạng thái"),
    column(["channel", "varchar(12) not null"], "kenh_nop", "text", "I", "Kênh nộp"),
    column(["ward_code", "char(5) not null"], "ma_xa", "text", "I", "Mã xã, phường"),
    column(["officer", "varchar(100)"], "can_bo", "text", "B", "Cán bộ thụ lý"),
    column(["fee", "numeric(12,2) not null"], "le_phi", "numeric", "I", "Lệ phí"),
    column(["fee_paid", "numeric(12,2)"], "da_nop", "numeric", "I", "Đã nộp"),
    column(["submitted_at", "timestamptz not null"], "nop_luc", "timestamptz", "I", "Nộp lúc"),
    column(["received_at", "timestamptz"], "tiep_nhan_luc", "timestamptz", "I", "Tiếp nhận lúc"),
    column(["due_at", "timestamptz"], "hen_tra_luc", "timestamptz", "I", "Hẹn trả lúc"),
    column(["completed_at", "timestamptz"], "xong_luc", "timestamptz", "I", "Xong lúc"),
    column(["remarks", "text"], "ghi_chu", "text", "I", "Ghi chú"),
    column(["updated_at", "timestamptz not null"], "sua_luc", "timestamptz", "I", "Sửa lúc"),
];
