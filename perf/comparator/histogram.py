"""The guest's log-linear histograms of TSC cycles, in microseconds."""

SUB_BUCKETS = 16  # per power of two (qemu-integration/guests/common/histogram.h)


class Histogram:
    """Buckets are (low µs, high µs) → count, so histograms of different runs can be pooled."""

    def __init__(self):
        self.buckets = {}
        self.count = 0
        self.sum_us = 0.0
        self.max_us = 0.0

    def add(self, low, high, count):
        self.buckets[low, high] = self.buckets.get((low, high), 0) + count

    def merge(self, other, times=1):
        for (low, high), count in other.buckets.items():
            self.add(low, high, count * times)
        self.count += other.count * times
        self.sum_us += other.sum_us * times
        self.max_us = max(self.max_us, other.max_us)
        return self

    def above(self, floor_us):
        """Only the samples in buckets that lie above; their sum is estimated at bucket middles."""
        slow = Histogram()
        for (low, high), count in self.buckets.items():
            if low >= floor_us:
                slow.add(low, high, count)
                slow.count += count
                slow.sum_us += count * (low + high) / 2
        slow.max_us = self.max_us if slow.count else 0.0
        return slow

    def quantile(self, share):
        """By interpolation within the bucket; None where there is no sample."""
        rest = share * sum(self.buckets.values())
        for (low, high), count in sorted(self.buckets.items()):
            if rest <= count:
                return min(low + (high - low) * rest / count, self.max_us or high)
            rest -= count
        return self.max_us if self.count else None

    def dump(self):
        return {"count": self.count, "sum_us": self.sum_us, "max_us": self.max_us,
                "buckets_us": [[low, high, n] for (low, high), n in sorted(self.buckets.items())]}


def _bucket_end(low):
    """The bucket's end in cycles, from its low end."""
    if low < 2 * SUB_BUCKETS:
        return low + 1
    return low + (1 << (low.bit_length() - 1)) // SUB_BUCKETS


def parse(lines):
    """{"first": …, "all": …, "before": …} from the lines of the command `d`."""
    found, per_us = {}, 1.0
    for line in lines:
        words = line.split()
        named = dict(word.split("=", 1) for word in words if "=" in word)
        if words[0] == "hist-begin":
            per_us = int(named["tsc_khz"]) / 1000
        elif words[0] == "hist":
            low, count = int(words[2]), int(words[3])
            into = found.setdefault(words[1], Histogram())
            into.add(low / per_us, _bucket_end(low) / per_us, count)
        elif words[0] == "hist-sum":
            into = found.setdefault(words[1], Histogram())
            into.count = int(named["count"])
            into.sum_us = int(named["sum_cycles"]) / per_us
            into.max_us = int(named["max_cycles"]) / per_us
    return found
