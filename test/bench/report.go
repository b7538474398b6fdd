package main

import (
	"fmt"
	"strings"
	"time"

	"whodunit/test/bench/section"
)

type report struct {
	start              time.Time
	corpus             string
	mean               int
	ingested, detected ingestion
	asked              asking
	acked              acknowledging
	sizes              []size
	pinned             float64
}

func (r *report) markdown() string {
	var b strings.Builder
	ms := func(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
	in, de, as, ac := r.ingested, r.detected, r.asked, r.acked
	fmt.Fprintf(&b, "Measured %s on %s. The sender ran on the same cores.\n\n", r.start.UTC().Format("2006-01-02"), section.Machine())
	fmt.Fprintf(&b, "%d real events of %s (mean %d bytes), repeated with new auditIDs and times.\n\n", in.events, r.corpus, r.mean)
	fmt.Fprintln(&b, "| what | figure | goal | met |\n|--|--|--|--|")
	row := func(what, figure, goal string, ok bool) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", what, figure, goal, section.Verdict(ok))
	}
	row("webhook to durable, searchable and sealed", fmt.Sprintf("%.0f events/s a core (%.0f/s in all)", in.perCore, in.perSec), "20,000 a core", in.perCore >= 20_000)
	row("a file to durable, searchable and sealed, the process pinned to one core", fmt.Sprintf("%.0f events/s", r.pinned), "20,000", r.pinned >= 20_000)
	row("the webhook, with the shipped rules", fmt.Sprintf("%.0f events/s a core (%.0f/s in all)", de.perCore, de.perSec), "-", true)
	for _, z := range r.sizes {
		ratio := float64(z.raw) / float64(z.disk)
		row(fmt.Sprintf("segments of %s, unrepeated", z.name), fmt.Sprintf("1/%.1f of %d MB raw", ratio, z.raw/1e6), "1/8", ratio >= 8)
	}
	rss := max(in.rss, de.rss)
	row("resident memory at full rate, peak", fmt.Sprintf("%d MB", rss>>20), "300 MB", rss <= 300<<20)
	for i, a := range as.answers {
		goal, ok := "-", true
		if i < 2 {
			goal, ok = "50 ms", a.median <= 50*time.Millisecond
		}
		row(a.what+" among "+fmt.Sprint(as.events), ms(a.median)+", at most "+ms(a.most), goal, ok)
	}
	row(fmt.Sprintf("acknowledgement at %d single events/s, p99", ac.rate), fmt.Sprintf("%s (p50 %s)", ms(ac.p99), ms(ac.p50)),
		fmt.Sprintf("twice the fsync p99 of another file on the disk meanwhile: %s (idle disk: %s, p50 %s)", ms(2*ac.beside99), ms(2*ac.fsync99), ms(ac.fsync50)),
		ac.p99 <= 2*ac.beside99)
	return b.String()
}
