%% Stands in for EMQX's management of its cluster.
-module(emqx_mgmt_api_cluster).
-export([join/1]).

join(Seed) -> ekka:join_as(?MODULE, Seed).
