public final class Echo {
    public static void main(String[] args) {
        new StokeholdWorker()
            .on("DO", (input, task) -> input)
            .on("longest", (input, task) -> {
                String[] words = ((String) input).trim().split("\\s+");
                java.util.Arrays.sort(words, (a, b) -> b.length() - a.length());
                System.out.println("attempt " + task.attempt()); // harmless: it goes to stderr
                return words[0];
            })
            .serve();
    }
}
