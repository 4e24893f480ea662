%% Stands in for EMQX's ekka: one broker's view of a cluster, as the tests want it.
%% `set(join, How)` decides what a join does; see do/2. `set(info, {result, Term})` has
%% `info/0` answer that.
-module(ekka).
-export([boot/1, stop/0, set/2, value/2, info/0, env/1, join/1, join_as/2]).
-export([enter/1, learn/2, say/1]).

%% The table's owner plays the application: while it is gone, whoever asks gets noproc.
boot(Log) ->
    Self = self(),
    spawn(fun() ->
        register(ekka_membership, self()),
        ets:new(ekka_table, [named_table, public]),
        ets:insert(ekka_table, [{log, Log}, {running, [node()]}, {stopped, []}]),
        Self ! booted,
        receive stop -> ok end
    end),
    receive booted -> ok end.

stop() ->
    Ref = monitor(process, ekka_membership),
    ekka_membership ! stop,
    receive {'DOWN', Ref, _, _, _} -> ok end.

set(Key, Value) -> ets:insert(ekka_table, {Key, Value}), ok.

value(Key, Default) ->
    case ets:lookup(ekka_table, Key) of
        [{_, Value}] -> Value;
        [] -> Default
    end.

present() ->
    case whereis(ekka_membership) of
        undefined -> exit({noproc, {gen_server, call, [ekka_membership, info, infinity]}});
        _ -> ok
    end,
    case value(restarting, false) of
        true -> exit({noproc, {gen_server, call, [ekka_membership, info, infinity]}});
        false -> ok
    end.

info() ->
    present(),
    case value(info, normal) of
        {result, Result} -> Result;
        How -> info(How)
    end.

info(How) ->
    case How of
        normal -> ok;
        {sleep, Ms} -> timer:sleep(Ms);
        hang -> timer:sleep(infinity);
        {crash, Reason} -> exit(Reason);
        undef -> mria_nosuch:info()
    end,
    Running = value(running, []),
    Stopped = value(stopped, []),
    Member = fun(Node) ->
        {member, Node, undefined, <<"0006490B2C3D">>, erlang:phash2(Node), up, up,
            os:timestamp(), core}
    end,
    #{
        members => lists:map(Member, Running ++ Stopped),
        partitions => [],
        running_nodes => Running,
        stopped_nodes => Stopped
    }.

env(cluster_discovery) -> value(env, {ok, {manual, []}}).

join(Seed) -> join_as(ekka, Seed).

%% Every join is noted, with its begin and end.
join_as(Module, Seed) ->
    note({start, Module, Seed}),
    Result =
        try
            do(value(join, ok), Seed)
        catch
            Class:Reason:Stack ->
                note({ended, Module, Seed}),
                erlang:raise(Class, Reason, Stack)
        end,
    note({ended, Module, Seed}),
    Result.

do(ok, Seed) ->
    set(restarting, true),
    timer:sleep(value(join_ms, 60)),
    Running = rpc:call(Seed, ekka, enter, [node()]),
    set(running, Running),
    set(restarting, false),
    ok;
do({once, How, Then}, Seed) ->
    set(join, Then),
    do(How, Seed);
do({result, Result}, _) ->
    Result;
do(hang, _) ->
    set(restarting, true),
    timer:sleep(infinity);
do({crash, Reason}, _) ->
    exit(Reason);
do(undef, Seed) ->
    mria_nosuch:join(Seed);
do(halt, _) ->
    halt(1, [{flush, false}]);
%% The link of the caller is cut, and the join goes on.
do({cut, Name}, Seed) ->
    erlang:disconnect_node(Name),
    do(ok, Seed).

%% A broker becomes a member of this one's cluster; all who run learn of it.
enter(Node) ->
    Running = lists:usort([Node | value(running, [])]),
    Others = Running -- [Node, node()],
    [rpc:call(Other, ekka, learn, [Running, value(stopped, [])]) || Other <- Others],
    set(running, Running),
    Running.

learn(Running, Stopped) ->
    set(running, Running),
    set(stopped, Stopped).

note(What) ->
    Line = io_lib:format("~0p ~0p ~0p.~n", [erlang:system_time(microsecond), node(), What]),
    file:write_file(value(log, undefined), Line, [append]).

%% Reads expressions from the standard input and prints what they are.
say(Prompt) ->
    io:format("~s booted~n", [Prompt]),
    loop(Prompt).

loop(Prompt) ->
    case io:get_line("") of
        eof ->
            halt(0, [{flush, false}]);
        Line ->
            {ok, Tokens, _} = erl_scan:string(Line),
            {ok, Exprs} = erl_parse:parse_exprs(Tokens),
            {value, Value, _} = erl_eval:exprs(Exprs, []),
            io:format("~s ~0p~n", [Prompt, Value]),
            loop(Prompt)
    end.
