"""Storage and GPU: what is read, where volumes go, and that measuring promises exactly what can be given."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eru.model.errors import EruError, InvalidInput, NoCapacity, Refused
from eru.model.nodes import EngineInfo
from eru.plan.explain import summary
from eru.resource.contract import UNLIMITED
from eru.resource.gpu import GpuKind
from eru.resource.storage import StorageKind
from eru.resource.storage.place import PLANS_MAX

STORAGE, GPU = StorageKind(), GpuKind()
INFO = EngineInfo(type="fake")
G = 1 << 30


def node(**bag):
    return STORAGE.node_added({key.replace("_", "-"): value for key, value in bag.items()}, INFO)


def ask(**bag):
    return STORAGE.parse_request({key.replace("_", "-"): value for key, value in bag.items()})


def grants_of(kind, capacity, usage, request, count=1):
    return [allotment.grant for allotment in kind.allot(capacity, usage, request, count)]


def lies(grant):
    """Target -> (directory, bytes)."""
    return {text.split(":")[1]: next(iter(plan.items())) for text, plan in grant["volume_plan_request"].items()}


def measured(kind, capacity, usage, request):
    table = kind.table()
    table.set(0, capacity, usage)
    return table.measure(request, np.zeros(1, np.int64))


def test_node_records():
    capacity, usage = node(
        volumes=["/data1:1T", "/data0:512G"], storage="100G", disks=["/dev/vda:/data0,/:10:20:1M:2M"]
    )
    assert capacity == {
        "volumes": {"/data0": 512 * G, "/data1": 1024 * G},
        "disks": [
            {
                "device": "/dev/vda",
                "mounts": ["/data0", "/"],
                "read_IOPS": 10,
                "write_IOPS": 20,
                "read_bps": 1 << 20,
                "write_bps": 2 << 20,
            }
        ],
        "storage": (100 + 512 + 1024) * G,
    }
    assert usage["volumes"] == {"/data0": 0, "/data1": 0}
    assert usage["storage"] == 0
    assert usage["disks"][0]["write_bps"] == 0


def test_node_without_a_word_takes_part_of_what_the_engine_has():
    capacity, _ = STORAGE.node_added({}, EngineInfo(type="fake", storage=10 * G))
    assert capacity["storage"] == 8 * G
    assert STORAGE.node_added(None, INFO)[0] == {"volumes": {}, "disks": [], "storage": 0}


@pytest.mark.parametrize(
    "bag",
    [
        {"volumes": ["data:1G"]},
        {"volumes": ["/data"]},
        {"volumes": ["/data:x"]},
        {"volumes": ["/data:-1G"]},
        {"volumes": ["/data:1G", "/data:2G"]},
        {"volumes": 7},
        {"disks": ["/dev/a:/"]},
        {"disks": ["/dev/a:data:1:1:1:1"]},
        {"disks": ["/dev/a:/:1:1:1:-1"]},
        {"disks": ["/dev/a:/:1:1:1:1", "/dev/a:/b:1:1:1:1"]},
        {"storage": "many"},
        {"storage": -5},
    ],
)
def test_malformed_nodes_are_refused(bag):
    with pytest.raises(InvalidInput) as error:
        node(**bag)
    assert next(iter(bag)) in str(error.value)


def test_a_read_only_volume_is_shown_as_such_and_keeps_its_place():
    capacity, usage = node(volumes=["/a:10G", "/b:10G"])
    (grant,) = grants_of(STORAGE, capacity, usage, ask(volumes=["AUTO:/d:ro:1G"]))
    ((text, lies),) = grant["volume_plan_request"].items()
    assert text == f"AUTO:/d:ro:{G}:0:0:0:0"
    usage = STORAGE.add(usage, [grant])
    for written in (text, text.replace(":ro:", ":or:")):  # records of earlier versions have sorted letters
        old = {**grant, "volumes_request": [written], "volumes_limit": [written]}
        old["volume_plan_request"] = old["volume_plan_limit"] = {written: lies}
        after = STORAGE.reallot(capacity, usage, old, {"volumes": ["AUTO:/d:ro:1G"]}).allotment.grant
        assert after["volume_plan_request"] == {f"AUTO:/d:ro:{2 * G}:0:0:0:0": {next(iter(lies)): 2 * G}}


def test_node_changes():
    capacity, usage = node(volumes=["/a:10G", "/b:10G"], storage="5G", disks=["/dev/a:/a:10:10:10:10"])
    after, _ = STORAGE.node_changed(capacity, usage, {"volumes": ["/a:20G"]}, delta=False)
    assert after["volumes"] == {"/a": 20 * G}
    assert after["storage"] == 25 * G
    after, used = STORAGE.node_changed(capacity, usage, {"volumes": ["/a:-10G", "/c:1G"], "storage": "-1G"}, delta=True)
    assert after["volumes"] == {"/b": 10 * G, "/c": G}
    assert after["storage"] == 15 * G
    assert used["volumes"] == {"/b": 0, "/c": 0}
    after, _ = STORAGE.node_changed(capacity, usage, {"disks": ["/dev/a:/x:-1:0:5:0"]}, delta=True)
    assert after["disks"][0]["read_IOPS"] == 9
    assert after["disks"][0]["mounts"] == ["/a", "/x"]
    after, _ = STORAGE.node_changed(capacity, usage, {"rm-disks": "/dev/a"}, delta=False)
    assert after["disks"] == []
    after, _ = STORAGE.node_changed(capacity, usage, {"disks": ["/dev/b:/b:1:1:1:1"]}, delta=False)
    assert [disk["device"] for disk in after["disks"]] == ["/dev/b"], "disks are replaced, as volumes are"
    after, _ = STORAGE.node_changed(capacity, usage, {"storage": "30G"}, delta=False)
    assert after["storage"] == 30 * G, "the total, as it is shown, volumes included"
    after, _ = STORAGE.node_changed(capacity, usage, {"storage": "3G", "volumes": ["/a:1G"]}, delta=False)
    assert after["storage"] == 4 * G
    with pytest.raises(InvalidInput, match="of which volumes have"):
        STORAGE.node_changed(capacity, usage, {"storage": "19G"}, delta=False)
    for bag, delta in (({"rm-disks": "/dev/a"}, True), ({"rm-disks": "/dev/z"}, False), ({"storage": "-9G"}, True)):
        with pytest.raises(InvalidInput):
            STORAGE.node_changed(capacity, usage, bag, delta=delta)
    usage = STORAGE.add(usage, grants_of(STORAGE, capacity, usage, ask(volumes=["AUTO:/d:rw:8G:5:0:0:0"])))
    for bag in ({"volumes": ["/a:-5G"]}, {"disks": ["/dev/a:/a:-6:0:0:0"]}):
        with pytest.raises(Refused, match="in use"):
            STORAGE.node_changed(capacity, usage, bag, delta=True)


@pytest.mark.parametrize("size", [1024, "1024", "1K", "1KiB", 1024.0])
def test_numbers_and_texts_are_both_read(size):
    assert ask(storage_request=size).storage_request == 1024
    request = ask(storage=size)
    assert (request.storage_request, request.storage_limit) == (1024, 1024)


def test_published_clients_send_zeros_and_nulls():
    request = STORAGE.parse_request(
        {"storage-request": 0, "storage-limit": 0, "volumes-request": None, "volumes-limit": None}
    )
    assert request.nothing
    (grant,) = grants_of(STORAGE, *node(), request)
    assert (grant["storage_request"], grant["storage_limit"], grant["volumes_request"]) == (0, 0, [])


def test_request_rules():
    request = ask(volumes=["AUTO:/data:wr:10G", "/etc/x:/x:ro"], storage_limit="5G")
    assert [volume.text for volume in request.requests] == [
        "AUTO:/data:rw:10737418240:0:0:0:0",
        "/etc/x:/x:ro:0:0:0:0:0",
    ]
    assert request.storage_request == request.storage_limit == 15 * G
    request = ask(volumes_request=["AUTO:/data:rw:10G"], volumes_limit=["AUTO:/data:rw:1G"])
    assert request.limits[0].size == 10 * G


@pytest.mark.parametrize(
    "bag",
    [
        {"storage": -1},
        {"storage": "lots"},
        {"storage_request": float("nan")},
        {"storage": True},
        {"volumes": ["/a"]},
        {"volumes": ["/a:b"]},
        {"volumes": ["a:/b:rw:1:2:3:4:5:6"]},
        {"volumes": ["AUTO:/b:rw:-1"]},
        {"volumes": ["AUTO:/b:r w:1"]},
        {"volumes": ["AUTO:/b:rw:x"]},
        {"volumes": ["AUTO:/b:rw:1", "AUTO:/b:rw:1"]},
        {"volumes": [1]},
        {"volumes": {"a": 1}},
        {"volumes_request": ["AUTO:/b:rw:1"], "volumes_limit": ["AUTO:/c:rw:1"]},
        {"volumes_request": ["AUTO:/b:rw:1"], "volumes_limit": ["AUTO:/b:rw:1", "AUTO:/c:rw:1"]},
        {"volumes": ["AUTO:/b\n:rw:1"]},
        {"volumes": [f"AUTO:/b{i}:rw:1" for i in range(100)]},
    ],
)
def test_malformed_requests_are_refused(bag):
    with pytest.raises(InvalidInput) as error:
        ask(**bag)
    assert len(str(error.value)) < 400


def test_best_fit_prefers_used_volumes():
    capacity, usage = node(volumes=["/a:10G", "/b:20G", "/c:30G"])
    (first,) = grants_of(STORAGE, capacity, usage, ask(volumes=["AUTO:/d:rw:15G"]))
    assert lies(first) == {"/d": ("/b", 15 * G)}
    usage = STORAGE.add(usage, [first])
    (second,) = grants_of(STORAGE, capacity, usage, ask(volumes=["AUTO:/d:rw:5G"]))
    assert lies(second) == {"/d": ("/b", 5 * G)}
    assert STORAGE.add(usage, [second])["volumes"]["/b"] == 20 * G


def test_monopoly_takes_an_unused_volume_whole():
    capacity, usage = node(volumes=["/a:10G", "/b:20G"])
    usage = STORAGE.add(usage, grants_of(STORAGE, capacity, usage, ask(volumes=["AUTO:/d:rw:1G"])))
    request = ask(volumes=["AUTO:/x:mrw:5G", "AUTO:/y:mrw:15G"])
    (grant,) = grants_of(STORAGE, capacity, usage, request)
    assert lies(grant) == {"/x": ("/b", 5 * G), "/y": ("/b", 15 * G)}
    usage = STORAGE.add(usage, [grant])
    with pytest.raises(NoCapacity, match="monopoly"):
        STORAGE.allot(capacity, usage, ask(volumes=["AUTO:/x:mrw:1G"]), 1)


def test_unlimited_goes_where_most_is_free():
    capacity, usage = node(volumes=["/a:10G", "/b:20G"])
    assert measured(STORAGE, capacity, usage, ask(volumes=["AUTO:/d"])).capacity[0] == UNLIMITED
    (grant,) = grants_of(STORAGE, capacity, usage, ask(volumes=["AUTO:/d"]))
    assert lies(grant) == {"/d": ("/b", 0)}
    assert measured(STORAGE, *node(), ask(volumes=["AUTO:/d"])).capacity[0] == 0


def test_unlimited_may_lie_beside_what_fills_its_volume():
    capacity, usage = node(volumes=["/a:20G"])
    request = ask(volumes=["AUTO:/d:rw:1G", "AUTO:/u:rw:0"])
    assert measured(STORAGE, capacity, usage, request).capacity[0] == 20
    assert len(STORAGE.allot(capacity, usage, request, 20)) == 20
    alone = ask(volumes=["AUTO:/m:mrw:1G", "AUTO:/u:rw:0"])
    assert measured(STORAGE, capacity, usage, alone).capacity[0] == 0, "nothing lies beside what is alone"


def test_rates_are_quotas_of_the_disk_under_the_path():
    capacity, usage = node(disks=["/dev/a:/:100:100:1G:1G", "/dev/b:/data:10:10:1M:1M"])
    request = ask(volumes=["/data/logs:/logs:rw:0:4:0:0:0"])
    assert measured(STORAGE, capacity, usage, request).capacity[0] == 2
    (allotment,) = STORAGE.allot(capacity, usage, request, 1)
    assert allotment.engine_params["iops_options"] == {"/dev/b": "4:0:0:0"}
    assert allotment.grant["disks_request"][0]["device"] == "/dev/b"
    usage = STORAGE.add(usage, [allotment.grant])
    assert usage["disks"][1]["read_IOPS"] == 4
    assert measured(STORAGE, capacity, usage, ask(volumes=["/database:/logs:rw:0:100"])).capacity[0] == 1
    with pytest.raises(NoCapacity, match="read_iops: 7 wanted, 6 free, left of disk /dev/b"):
        STORAGE.allot(capacity, usage, ask(volumes=["/data:/l:rw:0:7"]), 1)


def test_engine_gets_directories_and_flags_it_knows():
    capacity, usage = node(volumes=["/a:10G"])
    (allotment,) = STORAGE.allot(capacity, usage, ask(volumes=["AUTO:/d:mrw:1G", "/etc/x:/x:ro", "/s:/s:rshared"]), 1)
    assert allotment.engine_params == {
        "volumes": ["/a:/d:rw:1073741824:0:0:0:0", "/etc/x:/x:ro:0:0:0:0:0", "/s:/s:rshared:0:0:0:0:0"],
        "volume_changed": False,
        "storage": G,
        "iops_options": {},
    }


def test_realloc_stays_on_its_volume():
    capacity, usage = node(volumes=["/a:10G", "/b:10G"], storage="10G")
    (old,) = grants_of(STORAGE, capacity, usage, ask(volumes=["AUTO:/d:rw:4G"], storage="1G"))
    other = grants_of(STORAGE, capacity, STORAGE.add(usage, [old]), ask(volumes=["AUTO:/d:rw:3G"]))
    usage = STORAGE.add(usage, [old, *other])
    result = STORAGE.reallot(capacity, usage, old, {"volumes": ["AUTO:/d:rw:3G"], "storage": "1G"})
    grant = result.allotment.grant
    assert lies(grant) == {"/d": ("/a", 7 * G)}
    assert grant["storage_request"] == 9 * G
    assert result.allotment.engine_params["volume_changed"]
    assert result.usage["storage"] == 12 * G
    with pytest.raises(NoCapacity):
        STORAGE.reallot(capacity, usage, old, {"volumes": ["AUTO:/d:rw:4G"]})
    gone = STORAGE.reallot(capacity, usage, old, {"volumes": ["AUTO:/d:rw:-4G"]})
    assert gone.allotment.grant["volumes_request"] == []
    with pytest.raises(InvalidInput):
        STORAGE.reallot(capacity, usage, old, {"volumes": ["AUTO:/d:rw:-5G"]})
    same = STORAGE.reallot(capacity, usage, old, {"storage": "1G"})
    assert not same.allotment.engine_params["volume_changed"]


def test_storage_telling():
    capacity, usage = node(storage="10G")
    usage = STORAGE.add(usage, grants_of(STORAGE, capacity, usage, ask(storage="4G")))
    refusal = STORAGE.explain("n", capacity, usage, ask(storage="8G"))
    assert (refusal.dimension, refusal.wanted, refusal.free) == ("storage.storage", 8 * G, 6 * G)
    keys = {gauge.key: gauge.value for gauge in STORAGE.gauges("p", "n.1", capacity, usage)}
    assert keys == {"core.node.n_1.storage": 10.0 * G, "core.node.n_1.storage.used": 4.0 * G}
    assert STORAGE.idleness(capacity, usage) == 0.6
    assert STORAGE.diffs(usage, []) == [
        "storage: storage in use is recorded as 4294967296, but the workloads sum up to 0"
    ]
    assert STORAGE.remap(capacity, usage, {}) == {}


@pytest.mark.parametrize(
    ("volumes", "said"),
    [
        (
            ["AUTO:/d:rw:1G:0:0:0:4M"],
            "write_bps: 1 node short by at least 2M (nearest n: 2M, no disk has this much left)",
        ),
        (
            ["AUTO:/d:rw:1G:7:0:0:0", "AUTO:/e:rw:1G:8:0:0:0"],
            "read_iops: 1 node short by at least 5 (nearest n: 10, the disks together have no more left)",
        ),
    ],
)
def test_rates_that_are_short_are_told_in_their_unit(volumes, said):
    capacity, usage = node(volumes=["/data0:512G"], disks=["/dev/vda:/data0:10:20:1M:2M"])
    refusal = STORAGE.explain("n", capacity, usage, ask(volumes=volumes))
    assert summary([refusal]) == said


SIZES = st.sampled_from(["", ":0", ":1", ":3", ":10"])
VOLUMES = st.lists(
    st.tuples(st.sampled_from(["AUTO", "AUTO", "/data/x"]), st.sampled_from(["rw", "mrw"]), SIZES, st.booleans()),
    max_size=3,
)


@st.composite
def storage_bags(draw):
    texts = []
    for index, (source, flags, size, rated) in enumerate(draw(VOLUMES)):
        texts.append(f"{source}:/d{index}:{flags}{size or ':0'}" + (":3:0:0:1" if rated else ""))
    bag = {"volumes": texts} if texts else {}
    return bag | draw(st.sampled_from([{}, {"storage": 5}, {"storage-request": "1"}]))


@st.composite
def storage_nodes(draw):
    volumes = [f"/data{i}:{draw(st.integers(1, 30))}" for i in range(draw(st.integers(0, 4)))]
    disks = draw(st.sampled_from([[], ["/dev/a:/data0,/data1:10:10:10:10", "/dev/b:/:7:7:7:7"]]))
    return {"volumes": volumes, "disks": disks, "storage": draw(st.integers(0, 40))}


@settings(max_examples=200, deadline=None)
@given(storage_nodes(), st.lists(storage_bags(), min_size=1, max_size=4))
def test_storage_measured_is_exactly_what_can_be_allotted(bag, asked):
    capacity, usage = STORAGE.node_added(bag, INFO)
    grants = []
    for request in map(STORAGE.parse_request, asked):
        fit = int(measured(STORAGE, capacity, usage, request).capacity[0])
        assert (STORAGE.explain("n", capacity, usage, request) is None) == (fit > 0)
        if fit == UNLIMITED:
            new = grants_of(STORAGE, capacity, usage, request, PLANS_MAX + 5)[:3]
        else:
            new = grants_of(STORAGE, capacity, usage, request, fit)
            with pytest.raises(NoCapacity):
                STORAGE.allot(capacity, usage, request, fit + 1)
            new = new[: fit // 2 + 1]
        usage = STORAGE.add(usage, new)
        grants += new
        if 0 < fit < UNLIMITED:  # one after another is the same as at once
            assert measured(STORAGE, capacity, usage, request).capacity[0] == fit - len(new)
        assert STORAGE.diffs(usage, grants) == []
        assert usage["storage"] <= capacity["storage"]
        assert all(size <= capacity["volumes"][path] for path, size in usage["volumes"].items())
        for have, used in zip(capacity["disks"], usage["disks"], strict=True):
            assert all(used[key] <= have[key] for key in ("read_IOPS", "write_IOPS", "read_bps", "write_bps"))
    if grants:
        old = grants.pop()
        try:
            result = STORAGE.reallot(capacity, usage, old, {"storage": 1})
        except EruError:
            usage = STORAGE.subtract(usage, [old])
        else:
            assert [*lies(result.allotment.grant).values()] == [*lies(old).values()]
            usage, grants = result.usage, [*grants, result.allotment.grant]
    assert STORAGE.subtract(usage, grants) == STORAGE.zero(capacity)


# GPU.


def gpus(**counts):
    return {"prod_count_map": counts}


def test_gpu_life():
    capacity, usage = GPU.node_added(gpus(a100=4, t4=2), INFO)
    request = GPU.parse_request(gpus(a100="1", t4=1))
    measure = measured(GPU, capacity, usage, request)
    assert (measure.capacity[0], measure.usage[0], measure.rate[0]) == (2, 0, (1 / 4 + 1 / 2) / 2)
    grants = grants_of(GPU, capacity, usage, request, 2)
    usage = GPU.add(usage, grants)
    assert usage == gpus(a100=2, t4=2)
    with pytest.raises(NoCapacity, match=r"gpu\.t4: 1 wanted, 0 free"):
        GPU.allot(capacity, usage, request, 1)
    result = GPU.reallot(capacity, usage, grants[0], gpus(a100=2, t4=-1))
    assert result.allotment.grant == gpus(a100=3)
    assert result.usage == gpus(a100=4, t4=1)
    with pytest.raises(NoCapacity):
        GPU.reallot(capacity, usage, grants[0], gpus(a100=3))
    with pytest.raises(InvalidInput):
        GPU.reallot(capacity, usage, grants[0], gpus(a100=-2))
    with pytest.raises(Refused, match="in use"):
        GPU.node_changed(capacity, usage, gpus(t4=-1), delta=True)
    after, used = GPU.node_changed(capacity, usage, gpus(t4=8, a100=4, h100=1), delta=False)
    assert after == gpus(a100=4, h100=1, t4=8)
    assert used == gpus(a100=2, h100=0, t4=2)
    assert GPU.subtract(usage, grants) == GPU.zero(capacity)
    assert GPU.diffs(usage, grants[:1]) == [
        "gpu: a100 in use is recorded as 2, but the workloads sum up to 1",
        "gpu: t4 in use is recorded as 2, but the workloads sum up to 1",
    ]
    assert GPU.idleness(capacity, usage) == pytest.approx(2 / 6)
    assert len(GPU.gauges("p", "n", capacity, usage)) == 4


def test_gpu_nothing_asked_and_unknown_product():
    capacity, usage = GPU.node_added(None, INFO)
    nothing = measured(GPU, capacity, usage, GPU.parse_request({}))
    assert (nothing.capacity[0], nothing.weight) == (UNLIMITED, 0)
    assert measured(GPU, capacity, usage, GPU.parse_request(gpus(x=1))).capacity[0] == 0
    assert GPU.explain("n", capacity, usage, GPU.parse_request(gpus(x=1))).dimension == "gpu.x"


@pytest.mark.parametrize(
    "value", [{"a": -1}, {"a": "x"}, {"a": True}, {"": 1}, {"\n": 1}, [1], "a", {"a": 10**9}, {"a": 0.5j}]
)
def test_gpu_malformed(value):
    with pytest.raises(InvalidInput, match="prod_count_map"):
        GPU.parse_request({"prod_count_map": value})


def test_gpu_table_rows():
    table = GPU.table()
    for row in (3, 0):
        table.set(row, gpus(a=row + 1), gpus())
    table.set(7, gpus(b=5), gpus(b=1))
    rows = np.array([7, 3, 0, 1])
    assert table.measure(GPU.parse_request(gpus(a=1)), rows).capacity.tolist() == [0, 4, 1, 0]
    assert table.measure(GPU.parse_request(gpus(b=2)), rows).capacity.tolist() == [2, 0, 0, 0]
    table.clear(7)
    assert table.measure(GPU.parse_request(gpus(b=2)), rows).capacity.tolist() == [0, 0, 0, 0]
    assert table.measure((), rows).capacity.tolist() == [0, UNLIMITED, UNLIMITED, 0]
