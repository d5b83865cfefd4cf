#![no_main]

proxysql_stonith_fuzz::run!(raft_leader);
