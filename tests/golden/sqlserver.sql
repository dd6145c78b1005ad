-- Every statement that phusa-agent can send to a SQL Server, for review.
-- Made by agent/src/source/sqlserver/golden.rs; UPDATE=1 rewrites it.

-- each session begins with
set ansi_nulls on; set ansi_padding on; set ansi_warnings on; set arithabort on; set concat_null_yields_null on; set quoted_identifier on; set numeric_roundabort off; set implicit_transactions off; set xact_abort on; set nocount on; set rowcount 0; set language us_english; set dateformat ymd; set textsize 2147483647; set lock_timeout 5000; set deadlock_priority low;

-- where the database allows it
set transaction isolation level snapshot;

-- elsewhere
set transaction isolation level read committed;

-- around a round of changes in a snapshot
begin transaction;

-- its end
commit transaction;

-- whether it is slow for everyone
select 1;

-- the server
select convert(nvarchar(128), serverproperty('ProductVersion')), convert(nvarchar(128), serverproperty('Edition')), convert(nvarchar(300), @@version);

-- the database
select convert(nvarchar(30), d.create_date, 126), coalesce(convert(nvarchar(36), r.database_guid), N''), coalesce(convert(nvarchar(36), r.recovery_fork_guid), N''), cast(d.compatibility_level as bigint), cast(d.snapshot_isolation_state as bigint), cast(d.is_cdc_enabled as bigint), coalesce(convert(nvarchar(60), databasepropertyex(d.name, 'Updateability')), N''), coalesce(d.collation_name, N''), cast(coalesce(t.retention_period, -1) as bigint), coalesce(t.retention_period_units_desc, N''), cast(coalesce(t.is_auto_cleanup_on, 0) as bigint), d.name from sys.databases d left join sys.database_recovery_status r on r.database_id = d.database_id left join sys.change_tracking_databases t on t.database_id = d.database_id where d.database_id = db_id();

-- what the login could change
select top (6) w.way from ( select N'it is a member of server role ' + r.name as way from (values (N'sysadmin'), (N'securityadmin'), (N'serveradmin'), (N'dbcreator')) r(name) where is_srvrolemember(r.name) = 1 union all select N'it is a member of database role ' + r.name from (values (N'db_owner'), (N'db_datawriter'), (N'db_ddladmin'), (N'db_securityadmin'), (N'db_accessadmin')) r(name) where is_member(r.name) = 1 union all select N'it may ' + p.permission_name + N' on the server' from sys.fn_my_permissions(null, N'SERVER') p where p.permission_name in (N'CONTROL SERVER', N'ALTER ANY DATABASE', N'ALTER ANY LOGIN', N'ALTER ANY SERVER ROLE', N'IMPERSONATE ANY LOGIN') union all select N'it may ' + p.permission_name + N' in the database' from sys.fn_my_permissions(null, N'DATABASE') p where p.permission_name in (N'INSERT', N'UPDATE', N'DELETE', N'ALTER', N'CONTROL', N'TAKE OWNERSHIP', N'ALTER ANY SCHEMA', N'ALTER ANY ROLE', N'ALTER ANY USER') union all select N'it may ' + r.name + N' ' + s.name + N'.' + o.name from sys.objects o join sys.schemas s on s.schema_id = o.schema_id cross join (values (N'INSERT'), (N'UPDATE'), (N'DELETE'), (N'ALTER'), (N'CONTROL'), (N'TAKE OWNERSHIP')) r(name) where o.type in ('U', 'V') and o.is_ms_shipped = 0 and has_perms_by_name( quotename(s.name) + N'.' + quotename(o.name), N'OBJECT', r.name) = 1 union all select N'it may UPDATE column ' + c.name + N' of ' + s.name + N'.' + o.name from sys.objects o join sys.schemas s on s.schema_id = o.schema_id join sys.columns c on c.object_id = o.object_id where o.type in ('U', 'V') and o.is_ms_shipped = 0 and has_perms_by_name( quotename(s.name) + N'.' + quotename(o.name), N'OBJECT', N'UPDATE', c.name, N'COLUMN') = 1 ) w;

-- what it may run
select cast(count(*) as bigint) from sys.procedures p join sys.schemas s on s.schema_id = p.schema_id where p.is_ms_shipped = 0 and has_perms_by_name( quotename(s.name) + N'.' + quotename(p.name), N'OBJECT', N'EXECUTE') = 1;

-- the tables, for the wizard
select top (5000) s.name, t.name, cast((select sum(p.rows) from sys.partitions p where p.object_id = t.object_id and p.index_id in (0, 1)) as bigint), cast(has_perms_by_name(quotename(s.name) + '.' + quotename(t.name), 'OBJECT', 'SELECT') as bigint) from sys.tables t join sys.schemas s on s.schema_id = t.schema_id where t.is_ms_shipped = 0 order by s.name, t.name;

-- a table (@P1 schema, @P2 name)
select cast(o.object_id as bigint), convert(nvarchar(30), o.create_date, 126), convert(nvarchar(30), o.modify_date, 126), cast((select sum(p.rows) from sys.partitions p where p.object_id = o.object_id and p.index_id in (0, 1)) as bigint), cast(objectproperty(o.object_id, 'TableHasPrimaryKey') as bigint), cast(o.is_tracked_by_cdc as bigint) from sys.tables o join sys.schemas s on s.schema_id = o.schema_id where s.name = @P1 and o.name = @P2;

-- its columns (@P1 object id, @P2 quoted name)
select c.name, coalesce(b.name, u.name), cast(c.max_length as bigint), cast(c.precision as bigint), cast(c.scale as bigint), coalesce(c.collation_name, ''), cast(c.is_nullable as bigint), cast(c.is_computed as bigint), cast(has_perms_by_name(@P2, 'OBJECT', 'SELECT', c.name, 'COLUMN') as bigint) from sys.columns c join sys.types u on u.user_type_id = c.user_type_id left join sys.types b on b.user_type_id = c.system_type_id where c.object_id = @P1 order by c.column_id;

-- its unique keys (@P1 object id)
select cast(i.index_id as bigint), cast(i.is_primary_key as bigint), c.name, cast(c.is_nullable as bigint) from sys.indexes i join sys.index_columns ic on ic.object_id = i.object_id and ic.index_id = i.index_id join sys.columns c on c.object_id = ic.object_id and c.column_id = ic.column_id where i.object_id = @P1 and i.is_unique = 1 and i.has_filter = 0 and i.is_disabled = 0 and i.type in (1, 2) and ic.is_included_column = 0 order by i.is_primary_key desc, i.index_id, ic.key_ordinal;

-- its change tracking (@P1 object id, @P2 quoted name)
select cast(count(*) as bigint), cast(coalesce(has_perms_by_name(@P2, 'OBJECT', 'VIEW CHANGE TRACKING'), 0) as bigint) from sys.change_tracking_tables where object_id = @P1;

-- its capture instances (@P1 schema, @P2 name)
exec sys.sp_cdc_help_change_data_capture @source_schema = @P1, @source_name = @P2;

-- how far change tracking goes (@P1 object id)
select cast(coalesce(change_tracking_min_valid_version(cast(@P1 as int)), -1) as bigint), cast(coalesce(change_tracking_current_version(), -1) as bigint);

-- how far change data capture goes (@P1 instance)
select sys.fn_cdc_get_min_lsn(@P1), sys.fn_cdc_get_max_lsn();

-- how far row versions go
select cast(min_active_rowversion() as binary(8));

-- the server's clock
select convert(nvarchar(30), getdate(), 121);

-- whether the capture passed a time (@P1 position, @P2 time)
select cast(case when sys.fn_cdc_map_lsn_to_time(@P1) > convert(datetime, @P2, 121) then 1 else 0 end as bigint);

-- when a transaction was committed (@P1 position)
select convert(nvarchar(30), dateadd(minute, -datepart(tzoffset, sysdatetimeoffset()), sys.fn_cdc_map_lsn_to_time(@P1)), 126);

-- the end of the first range (@P1 bigint)
select t.[id] from [dbo].[Công dân]]1] as t order by t.[id] offset @P1 rows fetch next 1 rows only;

-- the end of the next (@P1 nvarchar(4000), @P2 bigint)
select t.[id] from [dbo].[Công dân]]1] as t where t.[id] > convert(int, @P1) order by t.[id] offset @P2 rows fetch next 1 rows only;

-- the first range (@P1 nvarchar(4000))
select t.[id], cast(t.[tên] as varbinary(100)) from [dbo].[Công dân]]1] as t where t.[id] <= convert(int, @P1) order by t.[id];

-- another (@P1 nvarchar(4000), @P2 nvarchar(4000))
select t.[id], cast(t.[tên] as varbinary(100)) from [dbo].[Công dân]]1] as t where t.[id] > convert(int, @P1) and t.[id] <= convert(int, @P2) order by t.[id];

-- the last (@P1 nvarchar(4000))
select t.[id], cast(t.[tên] as varbinary(100)) from [dbo].[Công dân]]1] as t where t.[id] > convert(int, @P1) order by t.[id];

-- the first of them, for comparing (@P1 nvarchar(4000))
select top (50000) t.[id], cast(t.[tên] as varbinary(100)) from [dbo].[Công dân]]1] as t where t.[id] > convert(int, @P1) order by t.[id];

-- with a row filter (@P1 nvarchar(4000))
select t.[id], cast(t.[tên] as varbinary(100)) from [dbo].[Công dân]]1] as t where t.[id] > convert(int, @P1) and ([tên] = N'Huế') order by t.[id];

-- all rows, for verify ()
select t.[id], cast(t.[tên] as varbinary(100)) from [dbo].[Công dân]]1] as t;

-- some rows, for preview ()
select top (20) t.[id], cast(t.[tên] as varbinary(100)) from [dbo].[Công dân]]1] as t;

-- a round of change tracking (@P1 bigint, @P2 bigint)
select cast(c.SYS_CHANGE_OPERATION as nvarchar(1)), cast(case when t.[id] is null then 0 else 1 end as int), c.[id], t.[id], cast(t.[tên] as varbinary(100)) from changetable(changes [dbo].[Công dân]]1], @P1) as c left join [dbo].[Công dân]]1] as t on t.[id] = c.[id] where c.SYS_CHANGE_VERSION <= @P2;

-- a round of change data capture (@P1 varbinary(8000), @P2 varbinary(8000))
declare @from binary(10) = sys.fn_cdc_increment_lsn(@P1); select c.__$start_lsn, cast(c.__$operation as int), c.[id], c.[id], cast(c.[tên] as varbinary(100)) from cdc.[fn_cdc_get_all_changes_dbo_t](@from, @P2, N'all update old') as c order by c.__$start_lsn, c.__$seqval, c.__$operation;

-- a round of row versions (@P1 varbinary(8000), @P2 varbinary(8000))
select t.[id], cast(t.[tên] as varbinary(100)) from [dbo].[Công dân]]1] as t where t.[rv] >= cast(@P1 as binary(8)) and t.[rv] < cast(@P2 as binary(8));

-- a range with a key of three columns (@P1 nvarchar(4000), @P2 nvarchar(4000), @P3 nvarchar(4000), @P4 nvarchar(4000), @P5 nvarchar(4000), @P6 nvarchar(4000))
select cast(cast(t.[xa] as nvarchar(5)) as varbinary(10)), t.[ma], cast(t.[luc] as datetime2(3)) from [dbo].[Công dân]]1] as t where t.[xa] >= convert(varchar(5), @P1 collate Vietnamese_CI_AS) and (t.[xa] > convert(varchar(5), @P1 collate Vietnamese_CI_AS) or (t.[xa] = convert(varchar(5), @P1 collate Vietnamese_CI_AS) and (t.[ma] > convert(uniqueidentifier, @P2) or (t.[ma] = convert(uniqueidentifier, @P2) and t.[luc] > convert(datetime, @P3, 121))))) and t.[xa] <= convert(varchar(5), @P4 collate Vietnamese_CI_AS) and (t.[xa] < convert(varchar(5), @P4 collate Vietnamese_CI_AS) or (t.[xa] = convert(varchar(5), @P4 collate Vietnamese_CI_AS) and (t.[ma] < convert(uniqueidentifier, @P5) or (t.[ma] = convert(uniqueidentifier, @P5) and t.[luc] <= convert(datetime, @P6, 121))))) order by t.[xa], t.[ma], t.[luc];

-- its changes (@P1 bigint, @P2 bigint)
select cast(c.SYS_CHANGE_OPERATION as nvarchar(1)), cast(case when t.[xa] is null then 0 else 1 end as int), cast(cast(c.[xa] as nvarchar(5)) as varbinary(10)), c.[ma], cast(c.[luc] as datetime2(3)), cast(cast(t.[xa] as nvarchar(5)) as varbinary(10)), t.[ma], cast(t.[luc] as datetime2(3)) from changetable(changes [dbo].[Công dân]]1], @P1) as c left join [dbo].[Công dân]]1] as t on t.[xa] = c.[xa] and t.[ma] = c.[ma] and t.[luc] = c.[luc] where c.SYS_CHANGE_VERSION <= @P2;

-- every type ()
select t.[bit], cast(t.[tinyint] as smallint), t.[smallint], t.[int], t.[bigint], t.[decimal], t.[numeric], cast(t.[money] as decimal(19, 4)), cast(t.[smallmoney] as decimal(19, 4)), t.[real], t.[float], t.[date], t.[time], t.[datetime2], t.[datetimeoffset], cast(t.[datetime] as datetime2(3)), cast(t.[smalldatetime] as datetime2(0)), t.[uniqueidentifier], cast(cast(t.[char] as nvarchar(10)) as varbinary(20)), cast(cast(t.[varchar] as nvarchar(50)) as varbinary(100)), cast(t.[nchar] as varbinary(20)), cast(t.[nvarchar] as varbinary(100)), cast(cast(t.[text] as nvarchar(max)) as varbinary(max)), cast(cast(t.[ntext] as nvarchar(max)) as varbinary(max)), cast(cast(t.[xml] as nvarchar(max)) as varbinary(max)), t.[binary], t.[varbinary], cast(t.[image] as varbinary(max)), cast(t.[timestamp] as binary(8)) from [dbo].[Công dân]]1] as t;
