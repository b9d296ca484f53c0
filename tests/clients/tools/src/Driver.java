import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.common.utils.Exit;

/**
 * Apache Kafka's command-line tools, one after the other inside one JVM, because each would need a second of processor time to start.
 *
 * <p>A request is a line of base64 fields: main class, standard input, arguments. The answer is a line of base64 fields: exit status, standard
 * output, standard error. A tool that exits in the middle of something is held where it is, for ever: an exception instead would be caught
 * by the tool, which would then print what it never prints.
 */
final class Driver {
    private static final int SECONDS = 60;
    private static final int LATE = 124;

    private static volatile Run current;

    /** One tool at work. */
    private static final class Run {
        final CountDownLatch over = new CountDownLatch(1);
        final List<Runnable> hooks = new ArrayList<>();
        final AtomicReference<Integer> status = new AtomicReference<>();
        volatile Thread thread;

        void end(int code) {
            status.compareAndSet(null, code);
            over.countDown();
        }
    }

    public static void main(String[] none) throws Exception {
        PrintStream answers = System.out;
        PrintStream complaints = System.err;
        Thread.currentThread().setUncaughtExceptionHandler((thread, thrown) -> thrown.printStackTrace(complaints));
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Exit.Procedure exit = (code, message) -> exit(code);
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        Exit.setShutdownHookAdder((name, hook) -> {
            Run run = current;
            if (run != null) {
                run.hooks.add(hook);
            }
        });
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            String[] fields = line.split(" ", -1);
            for (int i = 0; i < fields.length; i++) {
                fields[i] = new String(Base64.getDecoder().decode(fields[i]), StandardCharsets.UTF_8);
            }
            answers.println(run(fields[0], fields[1], Arrays.copyOfRange(fields, 2, fields.length)));
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static String run(String name, String input, String[] arguments) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        Run run = new Run();
        current = run;
        PrintStream outStream = new PrintStream(out, true, StandardCharsets.UTF_8);
        PrintStream errStream = new PrintStream(err, true, StandardCharsets.UTF_8);
        System.setOut(outStream);
        System.setErr(errStream);
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        // Scala's Console remembers the streams that it began with; in an inheritable thread-local they can be replaced.
        Method main = Class.forName(name).getMethod("main", String[].class);
        Thread thread = new Thread(() -> perform(run, main, arguments), name);
        run.thread = thread;
        thread.setDaemon(true);
        thread.start();
        if (!run.over.await(SECONDS, TimeUnit.SECONDS)) {
            run.end(LATE);
        }
        for (Runnable hook : takeHooks(run)) {
            Thread last = new Thread(hook, "shutdown");
            last.setDaemon(true);
            last.start();
            last.join(TimeUnit.SECONDS.toMillis(5));
        }
        outStream.flush();
        errStream.flush();
        return encoded(String.valueOf(run.status.get())) + " " + encoded(out) + " " + encoded(err);
    }

    /** What the tool wants done when its JVM ends; some ask Kafka's class for it, some the JVM. */
    private static List<Runnable> takeHooks(Run run) throws ReflectiveOperationException {
        Field field = Class.forName("java.lang.ApplicationShutdownHooks").getDeclaredField("hooks");
        field.setAccessible(true);
        Map<?, ?> hooks = (Map<?, ?>) field.get(null);
        List<Runnable> all = new ArrayList<>(run.hooks);
        hooks.keySet().forEach(hook -> all.add((Runnable) hook));
        hooks.clear();
        return all;
    }

    private static void perform(Run run, Method main, String[] arguments) {
        try {
            scala.Console.withOut(System.out, () -> scala.Console.withErr(System.err, () -> invoke(main, arguments)));
            run.end(0);
        } catch (RuntimeException thrown) {
            thrown.getCause().printStackTrace();
            run.end(1);
        }
    }

    private static Object invoke(Method main, String[] arguments) {
        try {
            main.setAccessible(true);
            return main.invoke(null, (Object) arguments);
        } catch (InvocationTargetException thrown) {
            throw new IllegalStateException(thrown.getCause());
        } catch (IllegalAccessException hidden) {
            throw new IllegalStateException(hidden);
        }
    }

    /** Ends the current tool; its own thread, and any that ends it, goes no further. */
    private static void exit(int code) {
        Run run = current;
        run.end(code);
        while (Thread.currentThread() == run.thread) {
            LockSupport.park(run);
        }
    }

    private static String encoded(String text) {
        return Base64.getEncoder().encodeToString(text.getBytes(StandardCharsets.UTF_8));
    }

    private static String encoded(ByteArrayOutputStream text) {
        return Base64.getEncoder().encodeToString(text.toByteArray());
    }

    private Driver() {}
}
