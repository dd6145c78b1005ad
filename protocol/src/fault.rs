//! `Fault`: stable code, class (retry, operator, bug) and remedy; the same words at agent and hub.
//!
//! Whatever reaches a person is a fault: a code that never changes, what it means here, and what
//! to do, in Vietnamese with English beside it. `docs/FAULTS.md` lists them all.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Who or what has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It goes away by itself; the program tries again.
    Retry,
    /// A person must do something; the part concerned waits.
    Operator,
    /// The program is wrong.
    Bug,
}

/// The stable code of a fault, written `source_can_write`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A configuration file is wrong.
    ConfigInvalid,
    /// A password, key or certificate file cannot be read.
    SecretUnreadable,
    /// A contract file is wrong or contradicts itself.
    ContractInvalid,
    /// A field is classed as a state secret, which is never shared (CT-01).
    StateSecret,
    /// A category list is wrong, or the hub does not hold it.
    ListInvalid,
    /// A mapping does not fit its contract or its table.
    MappingInvalid,
    /// It is not clear which encoding the texts of a column are in.
    EncodingUnsure,
    /// The source database does not answer.
    SourceUnreachable,
    /// The source database refuses the login.
    SourceLogin,
    /// No trusted TLS connection to the source database.
    SourceTls,
    /// The login could change the agency's data (CT-16a).
    SourceCanWrite,
    /// The login lacks a right that capture needs.
    SourceRights,
    /// A table of the mapping does not exist at the source.
    SourceTableMissing,
    /// A mapped column does not exist at the source.
    SourceColumnMissing,
    /// The table has no usable key.
    SourceKeyMissing,
    /// A column's type cannot be carried exactly.
    SourceTypeRefused,
    /// This version of the server cannot do what the mapping asks.
    SourceVersion,
    /// A setting of the source server stands in the way.
    SourceSetting,
    /// The server did not create the replication slot in time.
    SourceSlotWait,
    /// Another process uses the agent's replication slot.
    SourceSlotBusy,
    /// The source's log no longer reaches back to where the stream stood; the dataset is read again in a new epoch.
    SourceGap,
    /// The slot held back more WAL than `slot_wal_max`; it was given up to protect the agency's database.
    SourceSlotGivenUp,
    /// A mapped column was dropped, renamed or retyped at the source (HU-07).
    SourceSchema,
    /// Rows do not fit their contract; they stay at the agency and are counted.
    RowRejected,
    /// A row is larger than `row_bytes_max`; it stays at the agency and is counted.
    RowTooLarge,
    /// The spool has reached its limit; reading has stopped.
    SpoolFull,
    /// The disk is full.
    DiskFull,
    /// A file operation failed.
    DiskFailed,
    /// A spool file was damaged and is set aside; what it covered is read again.
    SpoolDamaged,
    /// The hub does not answer: waiting for the network.
    HubUnreachable,
    /// The hub's certificate is not one this agent trusts.
    HubCertificate,
    /// The hub refuses this agent's certificate.
    OwnCertificate,
    /// The address is outside `allowed_networks` (CT-22).
    NetworkNotAllowed,
    /// The clocks of agent and hub differ.
    ClockSkew,
    /// Agent and hub speak different versions of the protocol.
    ProtocolVersion,
    /// The hub does not know this agent.
    AgentUnknown,
    /// The hub has suspended this agent (CT-40).
    AgentSuspended,
    /// The hub has withdrawn this agent's identity.
    AgentRevoked,
    /// Two installations used one identity; both are locked.
    IdentityCloned,
    /// A newer enrolment or a decision at the hub has made this certificate void.
    CertificateVoid,
    /// The one-time code is unknown, over, or not for this.
    EnrolRefused,
    /// The one-time code was used with other keys before.
    EnrolReplayed,
    /// The enrolment waits for a second person at the hub.
    EnrolPending,
    /// The bound key cannot bring this identity back.
    RecoveryRefused,
    /// A step that needs a second person was taken by the first, or without one.
    SecondPerson,
    /// The hub has no contract for this dataset.
    DatasetUnknown,
    /// Agent and hub hold different contracts for this dataset (CT-15).
    ContractMismatch,
    /// The contract is not signed by its owner and by the hub (CT-15).
    ContractUnsigned,
    /// This agency is not the owner of the dataset (HU-21).
    NotOwner,
    /// The batch did not arrive as it was sent.
    FrameDamaged,
    /// The batch is not signed with this agent's key.
    SignatureWrong,
    /// The batch holds something the contract does not allow.
    ContractViolation,
    /// The batch was made by another mapping than the one its epoch began with.
    MappingMismatch,
    /// The batch is not the next of its stream.
    BatchOutOfTurn,
    /// A different batch with this number is already in the log.
    BatchConflict,
    /// The batch is larger than the hub accepts.
    BatchTooLarge,
    /// The hub asks to wait.
    HubBusy,
    /// The hub's storage is full.
    HubStorageFull,
    /// The hub's database does not answer.
    WarehouseUnavailable,
    /// The hub's database was made by another version.
    WarehouseSchema,
    /// The transfer log does not verify.
    LogBroken,
    /// Incidents are open.
    IncidentOpen,
    /// There is no open incident of that number.
    IncidentUnknown,
    /// The hub's database is behind its published log: a backup was restored, or entries removed.
    LogRestored,
    /// The hub showed a log that does not extend the one this agent saw before.
    LogForked,
    /// The log does not hold an entry that the hub gave a receipt for.
    LogEntryMissing,
    /// The newest complete backup is too old, or there is none (CB-19).
    BackupOverdue,
    /// A backup cannot be opened, or is not what its manifest says.
    BackupBroken,
    /// The agreed retention has not ended, or a hold forbids destruction (CB-18).
    RetentionRuns,
    /// A purpose that the legal profile or the contract does not have (HU-02, CT-43).
    PurposeNotAgreed,
    /// A key of another form than the dataset's.
    KeyUnfit,
    /// An account's name, role or unit is not one, or the name is taken.
    AccountInvalid,
    /// There is no account of that name, or it may not be seen.
    AccountUnknown,
    /// The role does not allow it (CB-07).
    RightMissing,
    /// Agents need a person.
    FleetUnwell,
    /// A focal point's item is missing or not one (CT-14).
    ContactInvalid,
    /// An order for an agent is not one, not the hub's, or not possible.
    OrderRefused,
    /// What was ordered reads all rows, and the agency's hours for that have not begun.
    OutsideHours,
    /// A broker between agent and hub does not answer.
    LinkUnreachable,
    /// A broker between agent and hub does not let one in, or not say it.
    LinkDenied,
    /// A reason is asked for, and there is none or it is too long.
    ReasonMissing,
    /// A window of maintenance is announced too late, or is none (CB-16).
    NoticeRefused,
    /// There is no announcement of that number that could be taken back.
    NoticeUnknown,
    /// A mail or a call about an incident is not taken by whom it goes to.
    EscalationUnreachable,
    /// The collector of security events is not reached (HU-31).
    SiemUnreachable,
    /// The log's checkpoint was not timestamped, or not by whom it should be (RFC 3161).
    TimestampMissing,
    /// The signatures under a release are not those of enough people.
    ReleaseUntrusted,
    /// What is said of releases is too old to be believed: somebody holds newer words back, or nobody signed in time.
    ReleaseExpired,
    /// What is said of releases is older than what this agent saw before, or than people still allow.
    ReleaseOlder,
    /// Parts of what is said of releases do not belong together.
    ReleaseMixed,
    /// A program did not arrive as it was signed, or far more arrived than was announced.
    ReleaseDamaged,
    /// The release wanted of this agent is not there, or is another program, or for another system.
    ReleaseUnfit,
    /// A step of an update did not work; the program that ran before runs on.
    UpdateFailed,
    /// What the agent kept was written by a newer program, in a form that this one does not know.
    StateNewer,
    /// A step of a release at the hub cannot be taken as asked.
    ReleaseRefused,
    /// Something happened that should be impossible.
    Bug,
}

/// What is said of a code, in both languages.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// The code.
    pub code: Code,
    /// Its name in files, logs and answers.
    pub name: &'static str,
    /// Who has to act.
    pub class: Class,
    /// What it means, in Vietnamese.
    pub meaning_vi: &'static str,
    /// What it means, in English.
    pub meaning_en: &'static str,
    /// What to do, in Vietnamese.
    pub remedy_vi: &'static str,
    /// What to do, in English.
    pub remedy_en: &'static str,
}

impl Code {
    /// Everything that is said of this code.
    #[must_use]
    pub fn words(self) -> &'static Words {
        let [first, ..] = &CATALOGUE;
        CATALOGUE.iter().find(|words| words.code == self).unwrap_or(first)
    }

    /// The code of that name, if this program knows one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        CATALOGUE.iter().find(|words| words.name == name).map(|words| words.code)
    }

    /// Its name in files, logs and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.words().name
    }

    /// Who has to act.
    #[must_use]
    pub fn class(self) -> Class {
        self.words().class
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that went wrong, as it is shown to a person.
#[derive(Debug)]
pub struct Fault {
    /// Which kind of thing.
    pub code: Code,
    /// What was tried on what. Never a row value, never the cause's own text.
    pub what: String,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Fault {
    /// A fault with no deeper cause.
    #[must_use]
    pub fn new(code: Code, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), cause: None }
    }

    /// A fault with the error that led to it. The error must not quote row values.
    #[must_use]
    pub fn because(
        code: Code,
        what: impl Into<String>,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { code, what: what.into(), cause: Some(cause.into()) }
    }

    /// What was tried and every cause below it, on one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.what.clone();
        let mut below: Option<&(dyn Error + 'static)> = self.source();
        while let Some(error) = below {
            text.push_str(": ");
            text.push_str(&error.to_string());
            below = error.source();
        }
        text
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

/// What is said of every code, in the order of [`Code`].
#[rustfmt::skip] // one code a line, so that the catalogue reads as a table
pub const CATALOGUE: [Words; 96] = [
    Words { code: Code::ConfigInvalid, name: "config_invalid", class: Class::Operator, meaning_vi: "Tệp cấu hình sai.", meaning_en: "A configuration file is wrong.", remedy_vi: "Sửa dòng được nêu rồi chạy lại `check`.", remedy_en: "Correct the line that is named and run `check` again." },
    Words { code: Code::SecretUnreadable, name: "secret_unreadable", class: Class::Operator, meaning_vi: "Không đọc được tệp mật khẩu, khóa hoặc chứng thư.", meaning_en: "A password, key or certificate file cannot be read.", remedy_vi: "Kiểm tra tệp có tồn tại, thuộc người dùng của dịch vụ và có quyền 0600.", remedy_en: "Check that the file exists, belongs to the service's user and has mode 0600." },
    Words { code: Code::ContractInvalid, name: "contract_invalid", class: Class::Operator, meaning_vi: "Tệp hợp đồng dữ liệu sai hoặc tự mâu thuẫn.", meaning_en: "A contract file is wrong or contradicts itself.", remedy_vi: "Sửa quy tắc được nêu; cơ quan và trung tâm phải giữ cùng một tệp.", remedy_en: "Correct the rule that is named; agency and hub must hold the same file." },
    Words { code: Code::StateSecret, name: "state_secret", class: Class::Operator, meaning_vi: "Một trường được xếp loại bí mật nhà nước, không bao giờ được chia sẻ (CT-01).", meaning_en: "A field is classed as a state secret, which is never shared (CT-01).", remedy_vi: "Bỏ trường này khỏi ánh xạ và hợp đồng. Chưa có gì được đọc hoặc gửi.", remedy_en: "Remove the field from mapping and contract. Nothing was read or sent." },
    Words { code: Code::ListInvalid, name: "list_invalid", class: Class::Operator, meaning_vi: "Danh mục dùng chung viết sai, hoặc trung tâm chưa có danh mục ấy.", meaning_en: "A category list is wrong, or the hub does not hold it.", remedy_vi: "Sửa tệp ở dòng được nêu; nhập danh mục bằng `phusa-hub category import`.", remedy_en: "Correct the file at the line named; bring the list in with `phusa-hub category import`." },
    Words { code: Code::MappingInvalid, name: "mapping_invalid", class: Class::Operator, meaning_vi: "Ánh xạ không khớp với hợp đồng hoặc bảng nguồn.", meaning_en: "A mapping does not fit its contract or its table.", remedy_vi: "Sửa trường được nêu trong tệp của bộ dữ liệu.", remedy_en: "Correct the field that is named in the dataset's file." },
    Words { code: Code::EncodingUnsure, name: "encoding_unsure", class: Class::Operator, meaning_vi: "Chưa rõ chữ của một cột theo bảng mã nào; đoán sai sẽ gửi đi tên sai.", meaning_en: "It is not clear which encoding the texts of a column are in; a wrong guess would send wrong names.", remedy_vi: "Xem điểm số `check` in ra, so với màn hình của phần mềm nguồn, rồi ghi rõ `encoding`.", remedy_en: "Look at the scores that `check` prints, compare with the screen of the source's own program, then name the `encoding`." },
    Words { code: Code::SourceUnreachable, name: "source_unreachable", class: Class::Retry, meaning_vi: "Cơ sở dữ liệu nguồn không trả lời.", meaning_en: "The source database does not answer.", remedy_vi: "Không mất dữ liệu; tác tử tự thử lại. Nếu kéo dài, kiểm tra máy chủ, cổng và tường lửa.", remedy_en: "Nothing is lost; the agent tries again by itself. If it lasts, check host, port and firewall." },
    Words { code: Code::SourceLogin, name: "source_login", class: Class::Operator, meaning_vi: "Cơ sở dữ liệu nguồn từ chối đăng nhập.", meaning_en: "The source database refuses the login.", remedy_vi: "Kiểm tra người dùng, tệp mật khẩu và quy tắc truy cập của máy chủ (PostgreSQL: pg_hba.conf).", remedy_en: "Check user, password file and the server's access rules (PostgreSQL: pg_hba.conf)." },
    Words { code: Code::SourceTls, name: "source_tls", class: Class::Operator, meaning_vi: "Không lập được kết nối TLS tin cậy tới cơ sở dữ liệu nguồn.", meaning_en: "No trusted TLS connection to the source database.", remedy_vi: "Khai báo CA đã ký chứng thư của máy chủ trong `tls_ca_file`.", remedy_en: "Name the CA that signed the server's certificate in `tls_ca_file`." },
    Words { code: Code::SourceCanWrite, name: "source_can_write", class: Class::Operator, meaning_vi: "Tài khoản này có thể thay đổi dữ liệu của cơ quan (CT-16a).", meaning_en: "The login could change the agency's data (CT-16a).", remedy_vi: "Dùng tài khoản chỉ có SELECT và REPLICATION; `check` in sẵn các câu lệnh. Hoặc nêu lý do trong `login_may_write_because`.", remedy_en: "Use a login with SELECT and REPLICATION only; `check` prints the statements. Or say in `login_may_write_because` why it may." },
    Words { code: Code::SourceRights, name: "source_rights", class: Class::Operator, meaning_vi: "Tài khoản thiếu một quyền cần cho việc đọc.", meaning_en: "The login lacks a right that capture needs.", remedy_vi: "Nhờ quản trị cơ sở dữ liệu chạy các câu lệnh mà `check` in ra.", remedy_en: "Let the database administrator run the statements that `check` prints." },
    Words { code: Code::SourceTableMissing, name: "source_table_missing", class: Class::Operator, meaning_vi: "Bảng trong ánh xạ không tồn tại ở nguồn.", meaning_en: "A table of the mapping does not exist at the source.", remedy_vi: "Sửa `table` trong tệp của bộ dữ liệu, hoặc khôi phục bảng.", remedy_en: "Correct `table` in the dataset's file, or restore the table." },
    Words { code: Code::SourceColumnMissing, name: "source_column_missing", class: Class::Operator, meaning_vi: "Cột trong ánh xạ không tồn tại ở nguồn.", meaning_en: "A mapped column does not exist at the source.", remedy_vi: "Sửa `from` trong tệp của bộ dữ liệu, hoặc khôi phục cột.", remedy_en: "Correct `from` in the dataset's file, or restore the column." },
    Words { code: Code::SourceKeyMissing, name: "source_key_missing", class: Class::Operator, meaning_vi: "Bảng không có khóa dùng được.", meaning_en: "The table has no usable key.", remedy_vi: "Thêm khóa chính, hoặc chỉ mục duy nhất trên cột NOT NULL và khai báo bằng ALTER TABLE … REPLICA IDENTITY USING INDEX.", remedy_en: "Add a primary key, or a unique index on NOT NULL columns and name it with ALTER TABLE … REPLICA IDENTITY USING INDEX." },
    Words { code: Code::SourceTypeRefused, name: "source_type_refused", class: Class::Operator, meaning_vi: "Kiểu của một cột không thể chuyển chính xác.", meaning_en: "A column's type cannot be carried exactly.", remedy_vi: "Bỏ cột khỏi ánh xạ, hoặc ánh xạ sang kiểu mà `check` đề xuất.", remedy_en: "Remove the column from the mapping, or map it to the type that `check` proposes." },
    Words { code: Code::SourceVersion, name: "source_version", class: Class::Operator, meaning_vi: "Phiên bản máy chủ này không làm được điều ánh xạ yêu cầu.", meaning_en: "This version of the server cannot do what the mapping asks.", remedy_vi: "Dùng cách đọc mà `check` đề xuất cho máy chủ này.", remedy_en: "Use the capture that `check` proposes for this server." },
    Words { code: Code::SourceSetting, name: "source_setting", class: Class::Operator, meaning_vi: "Một thiết lập của máy chủ nguồn cản trở việc đọc.", meaning_en: "A setting of the source server stands in the way.", remedy_vi: "Nhờ quản trị cơ sở dữ liệu đổi thiết lập được nêu.", remedy_en: "Let the database administrator change the setting that is named." },
    Words { code: Code::SourceSlotWait, name: "source_slot_wait", class: Class::Retry, meaning_vi: "Máy chủ không tạo được khe nhân bản kịp thời.", meaning_en: "The server did not create the replication slot in time.", remedy_vi: "Trên máy dự phòng, chạy `select pg_log_standby_snapshot()` ở máy chính; trên máy chính, kết thúc giao dịch cũ được nêu. Tác tử tự thử lại.", remedy_en: "On a standby run `select pg_log_standby_snapshot()` on the primary; on a primary end the old transaction that is named. The agent tries again by itself." },
    Words { code: Code::SourceSlotBusy, name: "source_slot_busy", class: Class::Retry, meaning_vi: "Tiến trình khác đang dùng khe nhân bản của tác tử.", meaning_en: "Another process uses the agent's replication slot.", remedy_vi: "Bảo đảm chỉ một tác tử mang tên này đang chạy. Tác tử tự thử lại.", remedy_en: "Make sure that only one agent of this name runs. The agent tries again by itself." },
    Words { code: Code::SourceGap, name: "source_gap", class: Class::Retry, meaning_vi: "Nhật ký nguồn không còn đến vị trí cũ; bộ dữ liệu được đọc lại trong kỷ mới.", meaning_en: "The source's log no longer reaches back to where the stream stood; the dataset is read again in a new epoch.", remedy_vi: "Không cần làm gì. Nếu lặp lại, tăng max_slot_wal_keep_size hoặc `slot_wal_max`.", remedy_en: "Nothing need be done. If it happens often, raise max_slot_wal_keep_size or `slot_wal_max`." },
    Words { code: Code::SourceSlotGivenUp, name: "source_slot_given_up", class: Class::Retry, meaning_vi: "Khe giữ lại nhiều WAL hơn `slot_wal_max` nên đã được bỏ để bảo vệ cơ sở dữ liệu của cơ quan.", meaning_en: "The slot held back more WAL than `slot_wal_max`; it was given up to protect the agency's database.", remedy_vi: "Bộ dữ liệu tự được đọc lại. Tìm nguyên nhân tác tử bị chậm.", remedy_en: "The dataset is read again by itself. Find out why the agent fell behind." },
    Words { code: Code::SourceSchema, name: "source_schema", class: Class::Operator, meaning_vi: "Cột đã ánh xạ bị xóa, đổi tên hoặc đổi kiểu ở nguồn (HU-07).", meaning_en: "A mapped column was dropped, renamed or retyped at the source (HU-07).", remedy_vi: "Sửa tệp của bộ dữ liệu (và hợp đồng nếu ý nghĩa thay đổi). Các bộ dữ liệu khác vẫn chạy.", remedy_en: "Adapt the dataset's file (and the contract, if the meaning changed). Other datasets go on." },
    Words { code: Code::RowRejected, name: "row_rejected", class: Class::Operator, meaning_vi: "Một số bản ghi không hợp với hợp đồng; chúng ở lại cơ quan và được đếm.", meaning_en: "Rows do not fit their contract; they stay at the agency and are counted.", remedy_vi: "Xem tệp bản ghi bị loại để biết khóa và quy tắc, sửa ở nguồn; sau đó chúng tự được gửi.", remedy_en: "See the rejects file for key and rule, correct the rows at the source; they then travel by themselves." },
    Words { code: Code::RowTooLarge, name: "row_too_large", class: Class::Operator, meaning_vi: "Một bản ghi lớn hơn `row_bytes_max`; nó ở lại cơ quan và được đếm.", meaning_en: "A row is larger than `row_bytes_max`; it stays at the agency and is counted.", remedy_vi: "Tăng `row_bytes_max`, hoặc bỏ cột lớn khỏi ánh xạ.", remedy_en: "Raise `row_bytes_max`, or take the large column out of the mapping." },
    Words { code: Code::SpoolFull, name: "spool_full", class: Class::Operator, meaning_vi: "Hàng đợi đã đầy; việc đọc đã dừng.", meaning_en: "The spool has reached its limit; reading has stopped.", remedy_vi: "Không mất dữ liệu. Khôi phục kết nối tới trung tâm, hoặc tăng `spool_bytes_max`.", remedy_en: "Nothing is lost. Restore the connection to the hub, or raise `spool_bytes_max`." },
    Words { code: Code::DiskFull, name: "disk_full", class: Class::Operator, meaning_vi: "Ổ đĩa đã đầy.", meaning_en: "The disk is full.", remedy_vi: "Không mất dữ liệu. Giải phóng dung lượng; công việc tự tiếp tục.", remedy_en: "Nothing is lost. Free some space; work resumes by itself." },
    Words { code: Code::DiskFailed, name: "disk_failed", class: Class::Operator, meaning_vi: "Thao tác tệp thất bại.", meaning_en: "A file operation failed.", remedy_vi: "Kiểm tra ổ đĩa và quyền trên thư mục được nêu.", remedy_en: "Check the disk and the rights on the folder that is named." },
    Words { code: Code::SpoolDamaged, name: "spool_damaged", class: Class::Retry, meaning_vi: "Một tệp hàng đợi bị hỏng và được để riêng; phần đó được đọc lại.", meaning_en: "A spool file was damaged and is set aside; what it covered is read again.", remedy_vi: "Kiểm tra ổ đĩa. Tệp được giữ trong `quarantine/`.", remedy_en: "Check the disk. The file is kept in `quarantine/`." },
    Words { code: Code::HubUnreachable, name: "hub_unreachable", class: Class::Retry, meaning_vi: "Trung tâm không trả lời: đang chờ mạng.", meaning_en: "The hub does not answer: waiting for the network.", remedy_vi: "Không mất dữ liệu; hàng đợi lớn lên rồi tự vơi.", remedy_en: "Nothing is lost; the spool grows and empties by itself." },
    Words { code: Code::HubCertificate, name: "hub_certificate", class: Class::Operator, meaning_vi: "Chứng thư của trung tâm không được tác tử này tin cậy.", meaning_en: "The hub's certificate is not one this agent trusts.", remedy_vi: "Đối chiếu dấu vân tay CA với người vận hành trung tâm; không tiếp tục nếu khác nhau.", remedy_en: "Compare the CA's fingerprint with the hub's operator; do not go on if it differs." },
    Words { code: Code::OwnCertificate, name: "own_certificate", class: Class::Operator, meaning_vi: "Trung tâm từ chối chứng thư của tác tử này.", meaning_en: "The hub refuses this agent's certificate.", remedy_vi: "Chứng thư có thể đã hết hạn hoặc bị thu hồi; xin người vận hành trung tâm cấp lại.", remedy_en: "The certificate may have expired or been revoked; ask the hub's operator for a new one." },
    Words { code: Code::NetworkNotAllowed, name: "network_not_allowed", class: Class::Operator, meaning_vi: "Địa chỉ nằm ngoài `allowed_networks` (CT-22).", meaning_en: "The address is outside `allowed_networks` (CT-22).", remedy_vi: "Kết nối qua mạng chuyên dùng, hoặc sửa `allowed_networks`.", remedy_en: "Connect over the dedicated network, or correct `allowed_networks`." },
    Words { code: Code::ClockSkew, name: "clock_skew", class: Class::Operator, meaning_vi: "Đồng hồ của tác tử và trung tâm lệch nhau.", meaning_en: "The clocks of agent and hub differ.", remedy_vi: "Chỉnh đồng hồ. Thứ tự không phụ thuộc vào nó, nhưng chứng thư thì có.", remedy_en: "Set the clock. Order does not depend on it, but certificates do." },
    Words { code: Code::ProtocolVersion, name: "protocol_version", class: Class::Operator, meaning_vi: "Tác tử và trung tâm dùng phiên bản giao thức khác nhau.", meaning_en: "Agent and hub speak different versions of the protocol.", remedy_vi: "Cập nhật bên cũ hơn.", remedy_en: "Update the older of the two." },
    Words { code: Code::AgentUnknown, name: "agent_unknown", class: Class::Operator, meaning_vi: "Trung tâm không biết tác tử này.", meaning_en: "The hub does not know this agent.", remedy_vi: "Nhờ người vận hành trung tâm đăng ký tác tử.", remedy_en: "Let the hub's operator register the agent." },
    Words { code: Code::AgentSuspended, name: "agent_suspended", class: Class::Operator, meaning_vi: "Trung tâm đã tạm ngừng tác tử này (CT-40).", meaning_en: "The hub has suspended this agent (CT-40).", remedy_vi: "Hỏi người vận hành trung tâm về lý do.", remedy_en: "Ask the hub's operator for the reason." },
    Words { code: Code::AgentRevoked, name: "agent_revoked", class: Class::Operator, meaning_vi: "Trung tâm đã thu hồi danh tính của tác tử này.", meaning_en: "The hub has withdrawn this agent's identity.", remedy_vi: "Hỏi người vận hành trung tâm về lý do; để dùng lại phải ghi danh lại bằng một mã mới (`phusa-agent enrol`).", remedy_en: "Ask the hub's operator for the reason; to be used again it must be enrolled with a new code (`phusa-agent enrol`)." },
    Words { code: Code::IdentityCloned, name: "identity_cloned", class: Class::Operator, meaning_vi: "Hai máy dùng cùng một danh tính (đĩa bị sao chép); cả hai bị khóa.", meaning_en: "Two installations used one identity (a copied disk); both are locked.", remedy_vi: "Tìm và tắt bản sao. Trung tâm mở khóa sau khi rõ nguyên nhân, hoặc cấp mã mới để ghi danh lại máy đúng.", remedy_en: "Find the copy and turn it off. The hub lifts the lock once the cause is known, or gives a new code to enrol the right machine." },
    Words { code: Code::CertificateVoid, name: "certificate_void", class: Class::Operator, meaning_vi: "Chứng thư này không còn giá trị: danh tính đã được ghi danh lại hoặc mở khóa cho một chứng thư mới hơn.", meaning_en: "This certificate is void: the identity was enrolled anew, or unlocked for a newer certificate.", remedy_vi: "Nếu đây là máy đúng, ghi danh lại bằng mã mới. Nếu không, tắt máy này.", remedy_en: "If this is the right machine, enrol it with a new code. If not, turn it off." },
    Words { code: Code::EnrolRefused, name: "enrol_refused", class: Class::Operator, meaning_vi: "Mã một lần không tồn tại, hết hạn, không phải cho tác tử này, hoặc đã bị từ chối.", meaning_en: "The one-time code is unknown, over, not for this agent, or was refused.", remedy_vi: "Đọc lại lý do được nêu; xin người vận hành trung tâm một mã mới (`phusa-hub enrol create`).", remedy_en: "Read the reason that is named; ask the hub's operator for a new code (`phusa-hub enrol create`)." },
    Words { code: Code::EnrolReplayed, name: "enrol_replayed", class: Class::Operator, meaning_vi: "Mã một lần này đã được dùng với khóa khác; việc này được báo cáo.", meaning_en: "This one-time code was used with other keys before; this is reported.", remedy_vi: "Nếu không phải bạn dùng lần trước, mã đã lộ: báo người vận hành trung tâm thu hồi tác tử ấy và cấp mã mới.", remedy_en: "If the first use was not yours the code has leaked: let the hub's operator revoke that agent and give a new code." },
    Words { code: Code::EnrolPending, name: "enrol_pending", class: Class::Retry, meaning_vi: "Việc ghi danh chờ người thứ hai ở trung tâm duyệt.", meaning_en: "The enrolment waits for a second person at the hub.", remedy_vi: "Đọc dấu vân tay được in ra cho người duyệt; lệnh tự hỏi lại. Ở trung tâm: `phusa-hub enrol ls`, rồi `approve` hoặc `refuse`.", remedy_en: "Read the fingerprint that is printed to whoever approves; the command asks again by itself. At the hub: `phusa-hub enrol ls`, then `approve` or `refuse`." },
    Words { code: Code::RecoveryRefused, name: "recovery_refused", class: Class::Operator, meaning_vi: "Không thể khôi phục danh tính bằng khóa ràng buộc.", meaning_en: "The bound key cannot bring this identity back.", remedy_vi: "Ghi danh lại bằng một mã mới (`phusa-agent enrol`).", remedy_en: "Enrol anew with a new code (`phusa-agent enrol`)." },
    Words { code: Code::SecondPerson, name: "second_person", class: Class::Operator, meaning_vi: "Việc này cần một người thứ hai xác nhận (CT-40, HU-26b).", meaning_en: "This needs a second person (CT-40, HU-26b).", remedy_vi: "Người khác với người đã yêu cầu chạy lệnh được nêu, với tên của mình trong `--by`.", remedy_en: "Somebody else than who asked runs the command that is named, with their own name in `--by`." },
    Words { code: Code::DatasetUnknown, name: "dataset_unknown", class: Class::Operator, meaning_vi: "Trung tâm không có hợp đồng cho bộ dữ liệu này.", meaning_en: "The hub has no contract for this dataset.", remedy_vi: "Nhờ người vận hành trung tâm áp dụng hợp đồng.", remedy_en: "Let the hub's operator apply the contract." },
    Words { code: Code::ContractMismatch, name: "contract_mismatch", class: Class::Operator, meaning_vi: "Tác tử và trung tâm giữ hợp đồng khác nhau cho bộ dữ liệu này (CT-15).", meaning_en: "Agent and hub hold different contracts for this dataset (CT-15).", remedy_vi: "So sánh hai tệp; hai bên phải giữ đúng bản đã thống nhất.", remedy_en: "Compare the two files; both sides must hold the version that was agreed." },
    Words { code: Code::ContractUnsigned, name: "contract_unsigned", class: Class::Operator, meaning_vi: "Hợp đồng chưa được cơ quan chủ quản và trung tâm cùng ký (CT-15).", meaning_en: "The contract is not signed by its owner and by the hub (CT-15).", remedy_vi: "Cơ quan chủ quản chạy `phusa-agent contract approve`, trung tâm chạy `phusa-hub contract approve` rồi `apply`. Chưa có gì được gửi.", remedy_en: "The owner runs `phusa-agent contract approve`, the hub `phusa-hub contract approve` and `apply`. Nothing was sent." },
    Words { code: Code::NotOwner, name: "not_owner", class: Class::Operator, meaning_vi: "Cơ quan này không phải chủ quản của bộ dữ liệu (HU-21).", meaning_en: "This agency is not the owner of the dataset (HU-21).", remedy_vi: "Chỉ cơ quan chủ quản nêu trong hợp đồng được gửi.", remedy_en: "Only the owner named in the contract may send it." },
    Words { code: Code::FrameDamaged, name: "frame_damaged", class: Class::Retry, meaning_vi: "Lô dữ liệu không đến nguyên vẹn.", meaning_en: "The batch did not arrive as it was sent.", remedy_vi: "Lô được tự gửi lại. Nếu lặp lại, có gì đó trên đường truyền làm thay đổi dữ liệu.", remedy_en: "It is sent again by itself. If it repeats, something on the way changes data." },
    Words { code: Code::SignatureWrong, name: "signature_wrong", class: Class::Operator, meaning_vi: "Lô dữ liệu không được ký bằng khóa của tác tử này.", meaning_en: "The batch is not signed with this agent's key.", remedy_vi: "Khóa ở tác tử không phải khóa đã đăng ký ở trung tâm; hãy đăng ký đúng khóa.", remedy_en: "The key at the agent is not the one registered at the hub; register the right one." },
    Words { code: Code::ContractViolation, name: "contract_violation", class: Class::Operator, meaning_vi: "Lô dữ liệu chứa điều hợp đồng không cho phép.", meaning_en: "The batch holds something the contract does not allow.", remedy_vi: "Lô không được áp dụng. Sửa ánh xạ hoặc bản ghi; xem mục tương ứng trong nhật ký.", remedy_en: "The batch was not applied. Correct the mapping or the row; see the entry in the transfer log." },
    Words { code: Code::MappingMismatch, name: "mapping_mismatch", class: Class::Operator, meaning_vi: "Lô được tạo bởi một ánh xạ khác với ánh xạ mở đầu kỷ.", meaning_en: "The batch was made by another mapping than the one its epoch began with.", remedy_vi: "Tác tử bình thường mở kỷ mới khi ánh xạ đổi; hỏi cơ quan xem chương trình hoặc tệp có bị sửa không.", remedy_en: "An agent opens a new epoch when its mapping changes; ask the agency whether its program or files were altered." },
    Words { code: Code::BatchOutOfTurn, name: "batch_out_of_turn", class: Class::Retry, meaning_vi: "Lô dữ liệu không phải lô kế tiếp của luồng.", meaning_en: "The batch is not the next of its stream.", remedy_vi: "Tác tử và trung tâm tự tìm đúng lô.", remedy_en: "Agent and hub find the right one by themselves." },
    Words { code: Code::BatchConflict, name: "batch_conflict", class: Class::Retry, meaning_vi: "Trong nhật ký đã có một lô khác mang số này.", meaning_en: "A different batch with this number is already in the log.", remedy_vi: "Tác tử tự mở kỷ mới. Nếu lặp lại, có thể hai tác tử trùng tên.", remedy_en: "The agent opens a new epoch by itself. If it repeats, two agents may share one name." },
    Words { code: Code::BatchTooLarge, name: "batch_too_large", class: Class::Operator, meaning_vi: "Lô dữ liệu lớn hơn mức trung tâm nhận.", meaning_en: "The batch is larger than the hub accepts.", remedy_vi: "Giảm `batch_bytes_max` hoặc `row_bytes_max` ở tác tử.", remedy_en: "Lower `batch_bytes_max` or `row_bytes_max` at the agent." },
    Words { code: Code::HubBusy, name: "hub_busy", class: Class::Retry, meaning_vi: "Trung tâm yêu cầu chờ.", meaning_en: "The hub asks to wait.", remedy_vi: "Không cần làm gì.", remedy_en: "Nothing need be done." },
    Words { code: Code::HubStorageFull, name: "hub_storage_full", class: Class::Retry, meaning_vi: "Kho lưu trữ của trung tâm đã đầy.", meaning_en: "The hub's storage is full.", remedy_vi: "Người vận hành trung tâm phải giải phóng dung lượng; các tác tử chờ và không mất gì.", remedy_en: "The hub's operator must free space; agents wait and lose nothing." },
    Words { code: Code::WarehouseUnavailable, name: "warehouse_unavailable", class: Class::Retry, meaning_vi: "Cơ sở dữ liệu của trung tâm không trả lời.", meaning_en: "The hub's database does not answer.", remedy_vi: "Các tác tử chờ và không mất gì. Xem nhật ký của trung tâm.", remedy_en: "Agents wait and lose nothing. See the hub's log." },
    Words { code: Code::WarehouseSchema, name: "warehouse_schema", class: Class::Operator, meaning_vi: "Cơ sở dữ liệu của trung tâm do phiên bản khác tạo.", meaning_en: "The hub's database was made by another version.", remedy_vi: "Chạy `phusa-hub migrate` bằng phiên bản phù hợp.", remedy_en: "Run `phusa-hub migrate` with the version that fits." },
    Words { code: Code::LogBroken, name: "log_broken", class: Class::Operator, meaning_vi: "Nhật ký truyền nhận không kiểm chứng được.", meaning_en: "The transfer log does not verify.", remedy_vi: "Ngừng mọi thay đổi, giữ một bản sao và đối chiếu với biên nhận của các tác tử.", remedy_en: "Stop changing anything, keep a copy, and compare with the agents' receipts." },
    Words { code: Code::IncidentOpen, name: "incident_open", class: Class::Operator, meaning_vi: "Có sự cố đang mở.", meaning_en: "Incidents are open.", remedy_vi: "Xem bằng `phusa-hub incident show`, xử lý nguyên nhân, rồi `phusa-hub incident close`.", remedy_en: "See `phusa-hub incident show`, remove the cause, then `phusa-hub incident close`." },
    Words { code: Code::IncidentUnknown, name: "incident_unknown", class: Class::Operator, meaning_vi: "Không có sự cố đang mở mang số này.", meaning_en: "There is no open incident of that number.", remedy_vi: "Xem các số bằng `phusa-hub incident ls --all`.", remedy_en: "See the numbers with `phusa-hub incident ls --all`." },
    Words { code: Code::LogRestored, name: "log_restored", class: Class::Operator, meaning_vi: "Cơ sở dữ liệu của trung tâm cũ hơn nhật ký đã công bố: một bản sao lưu đã được khôi phục, hoặc có mục bị xóa. Lô vẫn được nhận, mục mới chờ số.", meaning_en: "The hub's database is behind its published log: a backup was restored, or entries were removed. Batches are still taken, new entries wait for their numbers.", remedy_vi: "Nếu việc khôi phục là cố ý, chạy `phusa-hub log continue --because \"…\"`: nhật ký đi tiếp và ghi rõ các mục đã mất. Nếu không, giữ nguyên mọi thứ và tìm nguyên nhân.", remedy_en: "If the restore was meant, run `phusa-hub log continue --because \"…\"`: the log goes on and names the entries that were lost. If not, leave everything as it is and find out why." },
    Words { code: Code::LogForked, name: "log_forked", class: Class::Operator, meaning_vi: "Trung tâm đưa ra một nhật ký không nối tiếp nhật ký mà tác tử này đã thấy.", meaning_en: "The hub showed a log that does not extend the one this agent saw before.", remedy_vi: "Cả hai bản đã ký được giữ trong `ledger/_log/`. Báo cho thanh tra; không xóa gì. Việc gửi dữ liệu vẫn tiếp tục; tác tử chỉ đồng ký những gì nối tiếp điều nó đã thấy.", remedy_en: "Both signed versions are kept in `ledger/_log/`. Tell the inspector; delete nothing. Delivery goes on; the agent cosigns only what extends what it saw." },
    Words { code: Code::LogEntryMissing, name: "log_entry_missing", class: Class::Operator, meaning_vi: "Nhật ký không có mục mà trung tâm đã cấp biên nhận.", meaning_en: "The log does not hold an entry that the hub gave a receipt for.", remedy_vi: "Biên nhận có chữ ký nằm trong sổ của tác tử; hỏi người vận hành trung tâm xem cơ sở dữ liệu có được khôi phục từ bản sao lưu không.", remedy_en: "The signed receipt is in the agent's ledger; ask the hub's operator whether the database was restored from a backup." },
    Words { code: Code::BackupOverdue, name: "backup_overdue", class: Class::Operator, meaning_vi: "Bản sao lưu hoàn chỉnh mới nhất đã quá cũ, hoặc chưa có bản nào (CB-19).", meaning_en: "The newest complete backup is too old, or there is none (CB-19).", remedy_vi: "Xem nơi lưu trong `[backup]` có gắn và còn chỗ không, rồi chạy `phusa-hub backup make`; trung tâm tự thử lại.", remedy_en: "See whether the place in `[backup]` is mounted and has room, then run `phusa-hub backup make`; the hub tries again by itself." },
    Words { code: Code::BackupBroken, name: "backup_broken", class: Class::Operator, meaning_vi: "Bản sao lưu không mở được hoặc không đúng với bản kê của nó.", meaning_en: "A backup cannot be opened, or is not what its manifest says.", remedy_vi: "Kiểm tra tệp khóa được nêu; nếu khóa đúng thì bản sao này đã hỏng: dùng bản khác trong `phusa-hub backup ls` và tạo bản mới.", remedy_en: "Check the key file named; if the key is right, this copy is damaged: use another of `phusa-hub backup ls`, and make a new one." },
    Words { code: Code::RetentionRuns, name: "retention_runs", class: Class::Operator, meaning_vi: "Thời hạn lưu trữ đã thỏa thuận chưa hết, hoặc có lệnh giữ dữ liệu: chưa được hủy (CB-18).", meaning_en: "The agreed retention has not ended, or a hold is in force: nothing may be destroyed yet (CB-18).", remedy_vi: "Xem `phusa-hub warehouse destroy plan` và `warehouse hold ls`; chọn thời điểm sớm hơn, hoặc chờ.", remedy_en: "See `phusa-hub warehouse destroy plan` and `warehouse hold ls`; choose an earlier moment, or wait." },
    Words { code: Code::PurposeNotAgreed, name: "purpose_not_agreed", class: Class::Operator, meaning_vi: "Mục đích không có trong hồ sơ pháp lý của tỉnh hoặc trong hợp đồng (HU-02).", meaning_en: "The purpose is not one of the province's legal profile or of the contract (HU-02).", remedy_vi: "Dùng một mã được nêu; nếu cần mục đích khác thì phải thỏa thuận lại hợp đồng.", remedy_en: "Use one of the codes named; another purpose needs another version of the contract." },
    Words { code: Code::KeyUnfit, name: "key_unfit", class: Class::Operator, meaning_vi: "Khóa đưa vào không đúng dạng khóa của bộ dữ liệu.", meaning_en: "The key given is not of the form the dataset's keys have.", remedy_vi: "Nhập đủ các trường khóa theo thứ tự trong hợp đồng (`phusa-hub contract show`).", remedy_en: "Give every key field in the contract's order (`phusa-hub contract show`)." },
    Words { code: Code::AccountInvalid, name: "account_invalid", class: Class::Operator, meaning_vi: "Tên, vai trò hoặc đơn vị của tài khoản không hợp lệ, hoặc tên đã có người dùng.", meaning_en: "An account's name, role or unit is not one, or the name is taken.", remedy_vi: "Sửa điều được nêu; xem các tài khoản bằng `phusa-hub account ls`.", remedy_en: "Correct what is named; see the accounts with `phusa-hub account ls`." },
    Words { code: Code::AccountUnknown, name: "account_unknown", class: Class::Operator, meaning_vi: "Không có tài khoản mang tên này, hoặc bạn không được xem.", meaning_en: "There is no account of that name, or you may not see it.", remedy_vi: "Xem các tên bằng `phusa-hub account ls`.", remedy_en: "See the names with `phusa-hub account ls`." },
    Words { code: Code::RightMissing, name: "right_missing", class: Class::Operator, meaning_vi: "Vai trò của bạn không cho phép việc này (CB-07); lần thử đã được ghi vào nhật ký.", meaning_en: "Your role does not allow this (CB-07); the try stands in the log.", remedy_vi: "Nhờ người có quyền: quản trị chung lập quản trị đơn vị, quản trị đơn vị lập tài khoản trong đơn vị mình.", remedy_en: "Ask whoever may: the general administrator makes unit administrators, a unit's administrator makes accounts of its own unit." },
    Words { code: Code::FleetUnwell, name: "fleet_unwell", class: Class::Operator, meaning_vi: "Có tác tử cần người xử lý.", meaning_en: "There are agents that need a person.", remedy_vi: "Xem từng tác tử bằng `phusa-hub fleet show <cơ quan>`: lý do, cách xử lý, hạn và đầu mối.", remedy_en: "Look at each with `phusa-hub fleet show <agency>`: reason, remedy, deadline and focal point." },
    Words { code: Code::ContactInvalid, name: "contact_invalid", class: Class::Operator, meaning_vi: "Thiếu hoặc sai một mục của đầu mối (CT-14).", meaning_en: "An item of a focal point is missing or not one (CT-14).", remedy_vi: "Ghi đủ họ tên, chức vụ, nhiệm vụ, điện thoại và thư điện tử trong `phusa-hub fleet contact set`.", remedy_en: "Give name, position, duty, phone and e-mail in `phusa-hub fleet contact set`." },
    Words { code: Code::OrderRefused, name: "order_refused", class: Class::Operator, meaning_vi: "Yêu cầu gửi tới tác tử không hợp lệ, không phải của trung tâm, hoặc không làm được.", meaning_en: "An order for an agent is not one, not the hub's, or not possible.", remedy_vi: "Xem các yêu cầu bằng `phusa-hub fleet orders`; sửa điều được nêu.", remedy_en: "See the orders with `phusa-hub fleet orders`; correct what is named." },
    Words { code: Code::OutsideHours, name: "outside_hours", class: Class::Retry, meaning_vi: "Yêu cầu đọc toàn bộ dữ liệu, và chưa tới giờ cơ quan cho phép (`allowed_hours`).", meaning_en: "The order reads all rows, and the hours the agency allows for that (`allowed_hours`) have not begun.", remedy_vi: "Chờ: việc tự bắt đầu khi tới giờ. Nếu gấp, thỏa thuận với cơ quan để đổi `allowed_hours`.", remedy_en: "Wait: it begins by itself at that hour. If it is urgent, agree with the agency to change `allowed_hours`." },
    Words { code: Code::LinkUnreachable, name: "link_unreachable", class: Class::Retry, meaning_vi: "Máy chủ trung gian (broker) của liên lạc không trả lời; dữ liệu vẫn được gửi.", meaning_en: "The link's broker does not answer; data is delivered all the same.", remedy_vi: "Không cần làm gì nếu sắp có lại; nếu kéo dài, kiểm tra broker và tường lửa.", remedy_en: "Nothing to do if it comes back soon; if it lasts, check the broker and the firewall." },
    Words { code: Code::LinkDenied, name: "link_denied", class: Class::Operator, meaning_vi: "Máy chủ trung gian (broker) không cho phép; báo cáo bị bỏ, dữ liệu vẫn được gửi.", meaning_en: "The link's broker does not allow it; reports are dropped, data is delivered all the same.", remedy_vi: "Đặt quyền theo chủ đề của broker như mẫu trong configs/mosquitto: mỗi tác tử chỉ dùng chủ đề mang tên trong chứng thư của mình.", remedy_en: "Set the broker's rules as in configs/mosquitto: each agent uses the topics of the name in its certificate." },
    Words { code: Code::ReasonMissing, name: "reason_missing", class: Class::Operator, meaning_vi: "Việc này phải ghi lý do, từ 3 đến 500 ký tự.", meaning_en: "This needs a reason of 3 to 500 characters.", remedy_vi: "Ghi lý do rồi làm lại; chưa có gì được thay đổi.", remedy_en: "Give a reason and do it again; nothing was changed." },
    Words { code: Code::NoticeRefused, name: "notice_refused", class: Class::Operator, meaning_vi: "Thông báo bảo trì không hợp lệ: phải báo trước ít nhất 24 giờ (CB-16), có tiêu đề, và kết thúc sau khi bắt đầu.", meaning_en: "The announcement of maintenance is not one: it comes at least 24 hours before (CB-16), has a title, and ends after it begins.", remedy_vi: "Chọn thời gian muộn hơn; nếu khẩn cấp thì thêm `--emergency` và `--because` nêu lý do.", remedy_en: "Choose a later time; in an emergency add `--emergency` and say why with `--because`." },
    Words { code: Code::NoticeUnknown, name: "notice_unknown", class: Class::Operator, meaning_vi: "Không có thông báo bảo trì còn hiệu lực mang số này.", meaning_en: "There is no announcement of that number in force.", remedy_vi: "Xem các số bằng `phusa-hub notice ls --all`.", remedy_en: "See the numbers with `phusa-hub notice ls --all`." },
    Words { code: Code::EscalationUnreachable, name: "escalation_unreachable", class: Class::Retry, meaning_vi: "Không gửi được tin báo sự cố (thư điện tử hoặc webhook); tin chờ, không mất.", meaning_en: "Word of an incident (mail or webhook) is not taken; it waits and is not lost.", remedy_vi: "Kiểm tra địa chỉ, chứng thư và đường mạng trong `[escalation]`; trung tâm tự thử lại.", remedy_en: "Check the address, certificate and line named in `[escalation]`; the hub tries again by itself." },
    Words { code: Code::SiemUnreachable, name: "siem_unreachable", class: Class::Retry, meaning_vi: "Không gửi được nhật ký tới hệ thống giám sát an ninh (HU-31); các mục chờ, không mất mục nào.", meaning_en: "The collector of security events is not reached (HU-31); entries wait, none is lost.", remedy_vi: "Kiểm tra địa chỉ, chứng thư và đường mạng trong `[siem]` cùng máy thu; trung tâm tự thử lại và gửi tiếp từ chỗ dừng.", remedy_en: "Check the address, certificate and line named in `[siem]`, and the collector; the hub tries again by itself and goes on where it stopped." },
    Words { code: Code::TimestampMissing, name: "timestamp_missing", class: Class::Retry, meaning_vi: "Chưa có dấu thời gian cho điểm kiểm của nhật ký, hoặc câu trả lời không đúng là của tổ chức được tin cậy (RFC 3161).", meaning_en: "The log's checkpoint has no timestamp, or what came back is not one by the authority that is trusted (RFC 3161).", remedy_vi: "Kiểm tra `url` và `ca_file` trong `[timestamp]` cùng đường mạng; trung tâm tự thử lại, nhật ký vẫn chạy.", remedy_en: "Check `url` and `ca_file` in `[timestamp]`, and the line; the hub tries again by itself, and the log goes on." },
    Words { code: Code::ReleaseUntrusted, name: "release_untrusted", class: Class::Operator, meaning_vi: "Bản phát hành không có đủ chữ ký hợp lệ của người có trách nhiệm.", meaning_en: "The signatures under a release are not those of enough people.", remedy_vi: "Không có gì được cài; tác tử chạy tiếp bản đang có. Đừng thử lại: báo trung tâm, đối chiếu `phusa-hub release expire-report` và tệp root.", remedy_en: "Nothing was installed; the agent goes on with what it runs. Do not try again: tell the hub, compare `phusa-hub release expire-report` and the root file." },
    Words { code: Code::ReleaseExpired, name: "release_expired", class: Class::Operator, meaning_vi: "Thông tin phát hành đã quá hạn: có người giữ lại bản mới, hoặc chưa ai ký kịp.", meaning_en: "What is said of releases is too old to be believed: somebody holds newer words back, or nobody signed in time.", remedy_vi: "Tác tử chạy tiếp bản đang có. Ở trung tâm chạy `phusa-hub release expire-report` rồi ký phần đã hết hạn; kiểm tra đồng hồ máy.", remedy_en: "The agent goes on with what it runs. At the hub run `phusa-hub release expire-report` and sign what has expired; check the machine's clock." },
    Words { code: Code::ReleaseOlder, name: "release_older", class: Class::Operator, meaning_vi: "Thông tin phát hành cũ hơn bản tác tử đã thấy, hoặc cũ hơn mức còn được phép.", meaning_en: "What is said of releases is older than what this agent saw before, or than people still allow.", remedy_vi: "Không có gì được cài. Nếu trung tâm vừa khôi phục từ bản sao, phát hành lại bằng `phusa-hub release publish`; nếu không, coi là tấn công và báo ngay.", remedy_en: "Nothing was installed. If the hub was just restored from a backup, publish again with `phusa-hub release publish`; otherwise hold it for an attack and report it." },
    Words { code: Code::ReleaseMixed, name: "release_mixed", class: Class::Operator, meaning_vi: "Các phần của thông tin phát hành không khớp với nhau.", meaning_en: "Parts of what is said of releases do not belong together.", remedy_vi: "Không có gì được cài. Chạy `phusa-hub release publish` ở trung tâm để lập lại; nếu còn, kiểm tra ổ đĩa và mạng của trung tâm.", remedy_en: "Nothing was installed. Run `phusa-hub release publish` at the hub to write it anew; if it stays, check the hub's disk and network." },
    Words { code: Code::ReleaseDamaged, name: "release_damaged", class: Class::Operator, meaning_vi: "Chương trình nhận được không đúng như đã ký, hoặc dài hơn mức đã báo.", meaning_en: "A program did not arrive as it was signed, or far more arrived than was announced.", remedy_vi: "Phần đã tải bị bỏ; tác tử thử lại lần sau. Nếu lặp lại, kiểm tra tệp ở trung tâm và đường truyền.", remedy_en: "What was fetched is thrown away and tried again next time. If it comes back, check the file at the hub and the line." },
    Words { code: Code::ReleaseUnfit, name: "release_unfit", class: Class::Operator, meaning_vi: "Bản được giao không có, là chương trình khác, hoặc dành cho hệ máy khác.", meaning_en: "The release wanted of this agent is not there, or is another program, or for another system.", remedy_vi: "Kiểm tra bản đã giao bằng `phusa-hub rollout status`; phát hành đúng chương trình cho hệ máy này.", remedy_en: "Look at what was assigned with `phusa-hub rollout status`; publish the right program for this system." },
    Words { code: Code::UpdateFailed, name: "update_failed", class: Class::Operator, meaning_vi: "Một bước cập nhật không thành; chương trình cũ chạy tiếp.", meaning_en: "A step of an update did not work; the program that ran before runs on.", remedy_vi: "Xem lý do ở trang Cập nhật hoặc `phusa-agent update status`; sửa rồi giao lại.", remedy_en: "See the reason on the page of updates or in `phusa-agent update status`; mend it and assign again." },
    Words { code: Code::StateNewer, name: "state_newer", class: Class::Operator, meaning_vi: "Hàng đợi hoặc sổ của tác tử do một phiên bản mới hơn ghi; chương trình này không đọc được và không đụng vào.", meaning_en: "The agent's spool or ledger was written by a newer version; this program cannot read it and leaves it as it lies.", remedy_vi: "Chạy lại phiên bản mới hơn (`phusa-agent update status` nêu các bản đang giữ). Không xóa thư mục trạng thái: các lô chưa gửi nằm trong đó.", remedy_en: "Run the newer version again (`phusa-agent update status` names what is kept). Do not delete the state folder: batches not yet delivered lie in it." },
    Words { code: Code::ReleaseRefused, name: "release_refused", class: Class::Operator, meaning_vi: "Không thực hiện được bước phát hành ở trung tâm như yêu cầu.", meaning_en: "A step of a release at the hub cannot be taken as asked.", remedy_vi: "Làm theo điều được nêu: đủ người ký, đúng tệp khóa, đúng thứ tự bước.", remedy_en: "Do as is named: enough people sign, with the right key files, in the right order." },
    Words { code: Code::Bug, name: "bug", class: Class::Bug, meaning_vi: "Đã xảy ra điều lẽ ra không thể.", meaning_en: "Something happened that should be impossible.", remedy_vi: "Hãy báo lại kèm các dòng nhật ký liên quan; chúng không chứa giá trị bản ghi.", remedy_en: "Report it with the log lines around it; they hold no row values." },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_words_in_both_languages() {
        for (index, words) in CATALOGUE.iter().enumerate() {
            assert_eq!(words.code as usize, index, "{}", words.name);
            assert_eq!(serde_json::to_value(words.code).unwrap(), words.name);
            let texts = [words.meaning_vi, words.meaning_en, words.remedy_vi, words.remedy_en];
            assert!(texts.iter().all(|text| text.ends_with('.')), "{}", words.name);
        }
        assert_eq!(Code::Bug as usize, CATALOGUE.len() - 1);
    }

    #[test]
    fn a_fault_shows_what_was_tried_and_its_causes_below() {
        let cause = std::io::Error::other("permission denied");
        let fault = Fault::because(Code::DiskFailed, "cannot write batch 42 of ho_khau", cause);
        assert_eq!(fault.to_string(), "cannot write batch 42 of ho_khau");
        assert_eq!(fault.chain(), "cannot write batch 42 of ho_khau: permission denied");
    }
}
