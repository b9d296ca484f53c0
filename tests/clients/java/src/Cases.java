import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.ExecutionException;
import java.util.function.Supplier;

/** Running cases: one line each, rounds, deadlines. */
final class Cases {
    static final int[] FIRST = {0};
    static final int[] EVERY = {0, 1, 2};

    /** What a case does; whatever it throws is its failure. */
    interface Body {
        void run() throws Exception;
    }

    private record Case(String name, int[] rounds, Body body) {}

    private final List<Case> cases = new ArrayList<>();

    void add(String name, int[] rounds, Body body) {
        cases.add(new Case(name, rounds, body));
    }

    /** Runs the cases of the round whose names contain {@code only}; true when none failed. */
    boolean run(int round, String only) {
        boolean good = true;
        for (Case one : cases) {
            boolean wanted = false;
            for (int r : one.rounds) {
                wanted |= r == round;
            }
            if (!wanted || !one.name.contains(only)) {
                continue;
            }
            long begun = System.nanoTime();
            try {
                one.body.run();
                System.out.printf("ok %s (%.1f s)%n", one.name, (System.nanoTime() - begun) / 1e9);
            } catch (Exception | AssertionError reason) {
                good = false;
                System.out.println("FAIL " + one.name + ": " + reason.toString().replaceAll("\\s+", " "));
                reason.printStackTrace(System.out);
            }
            System.out.flush();
        }
        return good;
    }

    static void expect(boolean holds, Object message) {
        if (!holds) {
            throw new AssertionError(message);
        }
    }

    static void equal(Object found, Object wanted, String what) {
        if (!Objects.equals(found, wanted)) {
            String text = String.valueOf(found);
            throw new AssertionError(what + ": " + text.substring(0, Math.min(200, text.length())) + ", expected " + wanted);
        }
    }

    /** The body must fail with this class, directly or as the cause of what a future threw. */
    static void refused(Class<? extends Throwable> wanted, Body body) throws Exception {
        try {
            body.run();
        } catch (Exception failure) {
            Throwable cause = failure instanceof ExecutionException ? failure.getCause() : failure;
            if (wanted.isInstance(cause)) {
                return;
            }
            throw new AssertionError("expected " + wanted.getSimpleName() + ", got " + cause);
        }
        throw new AssertionError("no error, expected " + wanted.getSimpleName());
    }

    /** Asks until the answer is null; fails with the last answer. */
    static void eventually(Supplier<String> question) throws InterruptedException {
        long deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
        while (true) {
            String answer = question.get();
            if (answer == null) {
                return;
            }
            expect(System.nanoTime() < deadline, "waited in vain: " + answer);
            Thread.sleep(20);
        }
    }
}
