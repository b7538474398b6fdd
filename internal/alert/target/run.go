package target

import (
	"context"
	"time"

	"whodunit/internal/alert"
	"whodunit/internal/alert/post"
)

// longestSleep is how late a rule that is gone is noticed.
const longestSleep = time.Minute

// parcel is a job with what it takes to post it.
type parcel struct {
	job
	c   *client
	req post.Request
}

type outcome struct {
	parcel
	err error
}

// Run posts what is due until ctx ends, and writes the schedule. Run it once.
func (n *Notifier) Run(ctx context.Context) error {
	done, flying := make(chan outcome), 0
	for ctx.Err() == nil {
		parcels, pause := n.pass()
		for _, p := range parcels {
			flying++
			go func() { done <- outcome{p, n.send(ctx, p.c, p.req)} }() // flying sees to it that each is waited for
		}
		sleep := time.NewTimer(pause)
		select {
		case o := <-done:
			all := []outcome{o}
			for more := true; more; { // those that wait: one write for all
				select {
				case o := <-done:
					all = append(all, o)
				default:
					more = false
				}
			}
			flying -= len(all)
			n.finish(ctx, all)
			n.save()
		case <-n.wake:
		case <-sleep.C:
		case <-ctx.Done():
		}
		sleep.Stop()
	}
	var rest []outcome
	for range flying {
		rest = append(rest, <-done)
	}
	n.finish(ctx, rest)
	n.save()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.clients {
		c.close()
	}
	return nil
}

// pass gives what is to be posted now, and how long to sleep then.
func (n *Notifier) pass() (out []parcel, pause time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.o.Now()
	jobs, again := n.s.pass(now, n.rule, func(r *run) {
		if !r.Over {
			n.m.skip("gone")
		}
	})
	for _, j := range jobs {
		p := parcel{job: j, c: n.client(j.rule, j.r.Target)}
		err := p.c.err
		if err == nil {
			p.req, err = n.o.Deployment.request(j)
		}
		if err != nil { // the file was changed to an address that is none
			delete(n.s.runs, j.r.key())
			n.m.skip("endpoint")
			continue
		}
		out = append(out, p)
	}
	for k, c := range n.clients { // after a reload those of rules that are gone are let go
		if r := n.rule(k.rule); r == nil || k.target >= len(r.Targets) {
			c.close()
			delete(n.clients, k)
		}
	}
	n.m.active.Set(float64(len(n.s.runs)))
	pause = longestSleep
	if !again.IsZero() {
		pause = max(min(pause, again.Sub(now)), time.Millisecond)
	}
	return out, pause
}

// finish takes outcomes over into the schedule. A post that failed because all ends has none.
func (n *Notifier) finish(ctx context.Context, all []outcome) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range all {
		if o.err != nil && ctx.Err() != nil {
			o.r.flying = nothing
			continue
		}
		was := o.r.failing
		result := n.s.done(o.job, o.err, n.o.Now())
		n.m.posts.WithLabelValues(o.at.Type, result).Inc()
		log := n.o.Logger.With("rule", o.r.Rule, "cluster", o.r.Cluster, "target", o.r.Target+1, "type", o.at.Type)
		switch {
		case o.err != nil && !was: // the next failures are only counted
			log.Warn("target does not take its message", "result", result, "pause", alert.Pause(o.err), "error", o.err)
		case o.err == nil && was:
			log.Info("target takes messages again")
		}
	}
}

func (n *Notifier) save() {
	if err := n.write(); err != nil {
		n.o.Logger.Error("the schedule is not durable: after a restart messages may come again", "error", err)
	}
}
