package cluster

import (
	"context"
	"fmt"
	"time"
)

// Poll asks again and again until the answer is no error. At the end of ctx it
// returns the last answer that ctx did not cut short.
func Poll(ctx context.Context, every time.Duration, ask func(context.Context) error) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; at last: %w", context.Cause(ctx), last)
		case <-ticker.C:
		}
	}
}

// Gone asks until a pod of that UID is no more, or its name is another's.
func (c *Cluster) Gone(ctx context.Context, namespace, name, uid string) error {
	return Poll(ctx, time.Second, func(ctx context.Context) error {
		var pods List[Pod]
		if err := c.Get(ctx, &pods, "--namespace", namespace, "pods", "--field-selector", "metadata.name="+name); err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if pod.UID == uid {
				return fmt.Errorf("pod %q is still there: %s", name, pod.Why())
			}
		}
		return nil
	})
}
