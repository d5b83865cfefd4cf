#![no_main]

proxysql_stonith_fuzz::run!(config);
